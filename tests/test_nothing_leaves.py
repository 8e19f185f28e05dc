"""A whole run, services included, needs no network and asks for nothing but loopback."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import docker_engine

LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))
os.execvp(sys.argv[1], sys.argv[1:])
"""
CALLS = "connect,sendto,sendmsg,sendmmsg"
PEER = re.compile(
    r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"'
    r"|sa_family=(AF_(?!UNIX|NETLINK|UNSPEC)\w+)"
)
LOCAL = re.compile(r"127\.|::1$|::ffff:127\.|0\.0\.0\.0$|AF_INET6?$")
RUN = (
    "eureka run erdos --steps 1 --preset small-cpu --groups 1 --group-size 4 --set wave=4"
    " --set micro_batch=4 --set max_new_tokens=6 --set threads=1 --set kl=0"
)


def traced(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, set[str]]:
    """(exit code, addresses asked for) of a command in a network of loopback alone.

    What it leaves running in the background is traced to the end of the command, then ended.
    """
    for tool in ("strace", "unshare"):
        if shutil.which(tool) is None:
            docker_engine.missing(f"{tool} is not installed: apt-get install {tool}")
    net = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    log, code = folder / "trace", folder / "code"
    trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={CALLS}", "-o", str(log)]
    noted = [
        "/bin/sh",
        "-c",
        f'"$@" 2> {folder}/errors; echo $? > {code}.new; mv {code}.new {code}',
    ]
    tracer = subprocess.Popen(
        [*net, sys.executable, "-S", "-c", LOOPBACK_UP, *trace, *noted, "sh", *command],
        env=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    while not code.exists() and tracer.poll() is None:
        time.sleep(0.1)
    _end_all(environment.get("EUREKA_HOME"))
    tracer.terminate()
    tracer.wait()
    peers = {next(filter(None, groups)) for groups in PEER.findall(log.read_text())}
    return int(code.read_text()), peers


def _end_all(home: str | None) -> None:
    """End the processes whose environment or arguments name this home."""
    for folder in Path("/proc").glob("[0-9]*") if home else ():
        with contextlib.suppress(OSError):
            known = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            if str(home).encode() in known and int(folder.name) != os.getpid():
                os.kill(int(folder.name), signal.SIGKILL)


@pytest.mark.slow
def test_the_trace_notices_what_would_leave(tmp_path: Path) -> None:
    script = """
import socket
for family, address in ((socket.AF_INET, "192.0.2.7"), (socket.AF_INET6, "2001:db8::7")):
    try: socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (address, 53))
    except OSError: pass
"""
    command = [sys.executable, "-S", "-c", script]
    _, peers = traced(command, tmp_path, dict(os.environ))
    assert {"192.0.2.7", "2001:db8::7"} <= peers


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.policy
@pytest.mark.timeout(900)
def test_a_run_without_a_network_finishes_and_asks_for_loopback_only(
    tmp_path: Path, bundled_policy_folder: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(bundled_policy_folder.parent.parent)
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("EUREKA_", "PREFECT_"))
    } | {"EUREKA_HOME": str(home)}
    eureka = f"{sys.executable} -m eurekaflow.flows.cli"
    script = (
        f'eureka() {{ {eureka} "$@"; }}; {RUN}; code=$?; '
        "eureka best; eureka db stop --force; exit $code"
    )
    code, peers = traced(["/bin/sh", "-c", script], tmp_path, environment)
    # 4: none of its four attempts was valid, which depends on the processor's last bits.
    assert code in (0, 4), (tmp_path / "errors").read_text()[-2000:]
    assert {peer for peer in peers if not LOCAL.match(peer)} == set()
    assert any(peer.startswith("127.") for peer in peers)  # Prefect's server was talked to
