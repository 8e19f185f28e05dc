"""A container engine for the tests: the user's own where one answers, else one started here."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eurekaflow.verifiers.docker_engine import Engine
from eurekaflow.verifiers.sandbox import SandboxUnavailable

START_S = 60.0


def missing(reason: str) -> None:
    """Without an engine: a failure in CI, which installs one, elsewhere a skip."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def engine() -> Iterator[str | None]:
    """The engine's address; None is the one that the environment names."""
    try:
        Engine().close()
    except SandboxUnavailable as reason:
        if os.geteuid() != 0 or shutil.which("dockerd") is None:
            missing(f"{reason}; or run the tests as root with dockerd installed")
    else:
        yield None
        return
    with started() as address:
        yield address


@contextlib.contextmanager
def started(*options: str) -> Iterator[str]:
    """An engine of our own, without any network, ended with everything that it keeps."""
    folder = Path(tempfile.mkdtemp(prefix="eurekaflow-engine-"))
    address = f"unix://{folder}/engine.sock"
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            ["dockerd", "--host", address, "--data-root", str(folder / "data"),
             "--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid"),
             "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
             "--ip-masq=false", "--userland-proxy=false", *options],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        _await(address, process, folder / "log")
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _await(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(SandboxUnavailable):
            Engine(address).close()
            return
        time.sleep(0.1)
    missing("dockerd did not start: " + " | ".join(log.read_text().splitlines()[-5:]))
