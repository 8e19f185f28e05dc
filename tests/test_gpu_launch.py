"""What a GPU candidate reaches, tried without a GPU by a program in the worker's place."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from eurekaflow.verifiers import gpu_process

CANARY = """
import json, os, socket, subprocess
def refused(attempt):
    try:
        attempt()
    except OSError:
        return True
    return False
there = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
print(json.dumps({
    "uid": os.getuid(), "pid": os.getpid(), "environment": sorted(os.environ),
    "processes": [name for name in os.listdir("/proc") if name.isdigit()],
    "root_writable": not refused(lambda: os.mkdir("/new")),
    "usr_writable": not refused(lambda: os.mkdir("/usr/new")),
    "tmp_writable": not refused(lambda: os.mkdir("new")),
    "secret": os.path.exists(SECRET), "package": os.path.exists(PACKAGE + "/problem.py"),
    "network": not refused(lambda: there.connect(("127.0.0.1", PORT))),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "mounts": not refused(lambda: os.unshare(0x10000000)) if hasattr(os, "unshare") else False,
    "child": subprocess.run(["/bin/echo", "yes"], capture_output=True, text=True).stdout,
    "descriptors": sorted(os.listdir("/proc/self/fd")),
}))
"""


def test_a_gpu_candidate_reaches_nothing_but_its_own(tmp_path: Path) -> None:
    """Sockets can be made, for the driver; they reach nobody."""
    (tmp_path / "secret").write_text("s")
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = CANARY.replace("SECRET", repr(str(tmp_path / "secret")))
        text = text.replace("PACKAGE", repr(str(gpu_process.FOLDER)))
        text = text.replace("PORT", str(server.getsockname()[1]))
        found = _launched(text)
    assert found["uid"] != 0
    assert (found["pid"], found["processes"]) == (1, ["1"])
    reached = ("secret", "package", "network", "mounts", "root_writable", "usr_writable")
    assert not [name for name in reached if found[name]]
    assert found["tmp_writable"]
    assert found["child"] == "yes\n"
    assert "HOME" in found["environment"]
    assert not [name for name in found["environment"] if name.startswith(("EUREKA", "PG"))]
    assert set(found["interfaces"]) <= {"lo"}


def _launched(program: str) -> dict[str, object]:
    config = gpu_process.configuration(size=1, libraries="", confined=True)
    config["argv"] = ["-s", "-S", "-P", "-B", "-c", program]
    null, (status, theirs) = os.open("/dev/null", os.O_RDWR), os.pipe()
    numbers = [str(number) for number in (null, null, theirs)]
    python = [os.path.realpath(sys.executable), "-s", "-S", "-P", "-B", "-c"]
    given = [*numbers, str(gpu_process.FOLDER), json.dumps(config)]
    command = [*python, gpu_process._SHUFFLE, *given]
    done = subprocess.run(command, pass_fds=(null, theirs), capture_output=True, text=True,
                          env={"EUREKA_SECRET": "s"}, timeout=60, check=False)  # fmt: skip
    os.close(theirs)
    said = os.read(status, 4096).decode()
    os.close(status)
    os.close(null)
    if "error" in said:
        pytest.skip(f"no namespaces here: {said}")
    found: dict[str, object] = json.loads(done.stdout)
    return found
