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
from typing import cast

import pytest

from eurekaflow.models.settings import RunConfig
from eurekaflow.tasks import sandboxes
from eurekaflow.verifiers.allotment import LAYER, AllottedSandbox, Cores, run_fairly
from eurekaflow.verifiers.contract import run, value
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits, Sandbox

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
        self.clashes = self.runs = 0
        self._causes = causes or []
        self._lock = threading.Lock()

    def run(self, job: Job, limits: Limits) -> Execution:
        (core,) = limits.cpus
        with self._lock:
            self.runs += 1
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
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    load: float,
    causes: list[Cause],
    expected: Cause,
    runs: int,
) -> None:
    inner = Recorder(causes)
    allotted = AllottedSandbox(inner, Cores(tmp_path / "cores", frozenset({0})))
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    execution = run_fairly(allotted, JOB, Limits())
    assert inner.runs == runs
    assert execution.cause is expected
    assert len(execution.earlier) == runs - 1
    assert all(first.cause is Cause.TIMEOUT for first in execution.earlier)


def test_a_late_case_on_cores_of_its_own_is_run_twice_at_most(tmp_path: Path) -> None:
    inner = Recorder([Cause.TIMEOUT] * 9)
    execution = run_fairly(
        AllottedSandbox(inner, Cores(tmp_path / "cores", frozenset({0}))),
        JOB,
        Limits(),
        delayed=lambda _: True,
    )
    assert inner.runs == 2
    assert [first.cause for first in execution.earlier] == [Cause.TIMEOUT]


def test_a_lock_that_is_there_is_opened_without_asking_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As fs.protected_regular demands of another user's file in a shared folder."""
    usual, asked = os.open, list[int]()

    def opened(path: object, flags: int, *rest: object) -> int:
        asked.append(flags)
        return usual(path, flags, *rest)  # type: ignore[call-overload, no-any-return]

    with Cores(tmp_path / "cores", frozenset({0})).one():
        pass
    monkeypatch.setattr(os, "open", opened)
    with Cores(tmp_path / "cores", frozenset({0})).one():
        pass
    assert [flags & os.O_CREAT for flags in asked] == [0]


@pytest.mark.parametrize(
    ("timed", "wanted", "layers", "exclusive"),
    [
        (True, None, "", True),
        (False, None, "", False),
        (True, False, "", False),
        (False, True, "", True),
        (False, None, LAYER, True),
    ],
)
def test_timed_problems_have_cores_to_themselves_and_no_more_workers_than_cores(
    monkeypatch: pytest.MonkeyPatch, timed: bool, wanted: bool | None, layers: str, exclusive: bool
) -> None:
    asked = list[int]()

    def backend(config: RunConfig, limits: Limits, required: object, *, workers: int) -> Sandbox:
        asked.append(workers)
        return cast(Sandbox, Recorder())

    monkeypatch.setattr(sandboxes, "_backend", backend)
    config = RunConfig.model_validate({
        "problem": "erdos", "workers": 1000, "exclusive_cores": wanted, "sandbox_layers": layers,
    })  # fmt: skip
    made = sandboxes.open_sandbox(config, Limits(), timed=timed)
    assert (LAYER in made.layers) is exclusive
    assert asked == [len(os.sched_getaffinity(0)) if exclusive else 1000]


def test_contests_are_timed_and_constructions_are_not() -> None:
    assert [load(name).timed for name in ("ahc039", "ahc058", "erdos")] == [True, True, False]


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
