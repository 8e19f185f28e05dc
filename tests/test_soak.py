"""After some hundred candidates, hostile ones among them, nothing of them is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import pytest

from eurekaflow.verifiers.docker_engine import Engine
from eurekaflow.verifiers.docker_sandbox import DockerSandbox
from eurekaflow.verifiers.process import LEVELS, ProcessSandbox
from eurekaflow.verifiers.sandbox import SandboxUnavailable
from tests import soak as soaking
from tests.attacks import suite
from tests.soak import soak

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where files that are left behind are looked for: other tests make some in /tmp meanwhile.

    Open to candidates, as /tmp is and pytest's folders are not.
    """
    folder = tempfile.mkdtemp(prefix="eurekaflow-soak-")
    os.chmod(folder, 0o1777)
    monkeypatch.setattr(tempfile, "tempdir", folder)
    monkeypatch.setitem(soaking.worker.ENVIRONMENT, "TMPDIR", folder)
    yield
    shutil.rmtree(folder)


ORPHAN = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(30)
    os._exit(0)
os.wait()
"""


def test_a_process_that_was_re_parented_is_seen() -> None:
    soaking.mark()
    done = subprocess.Popen(
        [sys.executable, "-S", "-c", ORPHAN], stdout=subprocess.PIPE, text=True,
        env=soaking.worker.ENVIRONMENT,
    )  # fmt: skip
    assert done.stdout is not None
    orphan = int(done.stdout.readline())
    done.wait()
    try:
        assert orphan in soaking.orphans()
    finally:
        os.kill(orphan, signal.SIGKILL)
        done.communicate()
    deadline = time.monotonic() + 10
    while orphan in soaking.orphans():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_attack_is_in_the_mixture_the_slow_ones_rarely() -> None:
    mixed = soaking.programs(0)
    for attack in suite.ATTACKS:
        often = sum(attack.program in program for program in mixed)
        assert often == (1 if attack.name in soaking.SLOW else soaking.RARELY), attack.name


@pytest.mark.parametrize("level", LEVELS)
def test_processes_leave_nothing(level: str) -> None:
    soaking.mark()
    try:
        backend = ProcessSandbox(2, levels=(level,))
    except SandboxUnavailable as reason:
        pytest.skip(str(reason))
    with backend:
        assert soak(backend, 400, engine=None) == []
        assert backend.anomalies == 0


def test_containers_leave_nothing(container_engine: str | None) -> None:
    engine = Engine(container_engine)
    try:
        with DockerSandbox(2, base_url=container_engine) as backend:
            assert soak(backend, 100, engine=engine) == []
            assert backend.anomalies == 0
        listed = engine.api.containers(all=True, filters={"label": "eurekaflow.sandbox"})
        assert listed == []
    finally:
        engine.close()
