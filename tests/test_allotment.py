"""Timed candidates have cores to themselves; a timeout on a loaded host is run once more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eurekaflow.verifiers.allotment import AllottedSandbox, Cores
from eurekaflow.verifiers.contract import run, value
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits

HOLDER = """
import sys, time
from pathlib import Path
from eurekaflow.verifiers.allotment import Cores
with Cores(Path(sys.argv[1]), frozenset({0})).one():
    print("held", flush=True)
    time.sleep(60)
"""


class Recorder:
    """A sandbox that notes which cores are in use at the same time."""

    name, layers = "recorder", ()

    def __init__(self, causes: list[Cause] | None = None) -> None:
        self.now: list[int] = []
        self.clashes = 0
        self._causes = causes or []
        self._lock = threading.Lock()

    def run(self, job: Job, limits: Limits) -> Execution:
        (core,) = limits.cpus
        with self._lock:
            self.clashes += core in self.now
            self.now.append(core)
        time.sleep(0.01)
        with self._lock:
            self.now.remove(core)
            cause = self._causes.pop(0) if self._causes else Cause.RETURNED
        return Execution(cause=cause, result=b"1" if cause is Cause.RETURNED else None, wall_s=2.0)

    def close(self) -> None:
        pass


JOB = Job(program="", entry_point="f")


def test_no_core_is_given_twice_and_waiting_is_queueing(tmp_path: Path) -> None:
    inner = Recorder()
    cores = Cores(tmp_path / "cores", frozenset({0, 1}))
    allotted = AllottedSandbox(inner, cores)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: allotted.run(JOB, Limits()), range(24)))
    assert inner.clashes == 0
    assert max(execution.queue_s for execution in done) > 0.03
    assert {execution.wall_s for execution in done} == {2.0}


def test_two_runs_of_one_machine_share_no_core(tmp_path: Path) -> None:
    inner = Recorder()
    sandboxes = [
        AllottedSandbox(inner, Cores(tmp_path / "cores", frozenset({0, 1}))) for _ in range(2)
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: sandboxes[n % 2].run(JOB, Limits()), range(24)))
    assert inner.clashes == 0


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "cores")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_killed_holders_core_is_free_at_once(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    cores = Cores(tmp_path / "cores", frozenset({0}))
    assert cores._lock(0) is None
    holder.send_signal(signal.SIGKILL)
    started = time.monotonic()
    with cores.one() as core:
        assert core == 0
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("load", "causes", "expected", "runs"),
    [
        (100.0, [Cause.TIMEOUT, Cause.RETURNED], Cause.RETURNED, 2),
        (100.0, [Cause.TIMEOUT, Cause.TIMEOUT], Cause.TIMEOUT, 2),
        (100.0, [Cause.RAISED], Cause.RAISED, 1),
        (0.0, [Cause.TIMEOUT], Cause.TIMEOUT, 1),
    ],
)
def test_a_timeout_on_a_loaded_host_is_run_once_more_and_both_are_kept(
    tmp_path: Path, load: float, causes: list[Cause], expected: Cause, runs: int
) -> None:
    allotted = AllottedSandbox(
        Recorder(causes), Cores(tmp_path / "cores", frozenset({0})), load=lambda: load
    )
    execution = allotted.run(JOB, Limits())
    assert execution.cause is expected
    assert len(execution.earlier) == runs - 1
    assert all(first.cause is Cause.TIMEOUT for first in execution.earlier)


@pytest.mark.slow
def test_a_candidate_stays_on_the_core_that_it_was_given(tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    body = """
import os
try: os.sched_setaffinity(0, range(os.cpu_count()))
except OSError: pass
return sorted(os.sched_getaffinity(0))
"""
    with ProcessSandbox(1) as inner:
        allotted = AllottedSandbox(inner, Cores(tmp_path / "cores", frozenset({core})))
        assert value(run(allotted, body)) == [core]
