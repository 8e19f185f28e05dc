"""Zygotes are replaced, recycled and ended, and leave nothing behind."""

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

from eurekaflow.verifiers import process
from eurekaflow.verifiers.cgroup import ControlGroup
from eurekaflow.verifiers.contract import run, value
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Cause, Limits, SandboxUnavailable
from eurekaflow.verifiers.worker import Worker

pytestmark = pytest.mark.slow


def _at(level: str) -> Iterator[ProcessSandbox]:
    try:
        backend = ProcessSandbox(2, levels=(level,))
    except SandboxUnavailable as reason:
        pytest.skip(str(reason))
    with backend:
        yield backend
    assert backend.anomalies == 0


@pytest.fixture
def single() -> Iterator[ProcessSandbox]:
    with ProcessSandbox(1) as backend:
        yield backend


@pytest.fixture(params=process.LEVELS)
def granted(request: pytest.FixtureRequest) -> Iterator[ProcessSandbox]:
    yield from _at(request.param)


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _descendants(pid: int) -> list[int]:
    """The pids below `pid` as the host sees them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found += [int(stat.parent.name), *_descendants(int(stat.parent.name))]
    return found


def test_a_granted_fork_leaves_nothing_behind(granted: ProcessSandbox) -> None:
    body = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(60)
        os._exit(0)
return 1
"""
    started = time.monotonic()
    for _ in range(2):
        execution = run(granted, body, Limits(processes=16))
        assert value(execution) == 1
        # a zygote that is pid 1 of its namespace has one process below the launcher
        assert len(_descendants(int(execution.worker))) == (
            1 if granted.level == "namespaces" else 0
        )
    assert time.monotonic() - started < 30


def test_a_zygote_killed_while_idle_is_replaced(single: ProcessSandbox) -> None:
    first = run(single, "return 1")
    os.kill(int(first.worker), signal.SIGKILL)
    again = run(single, "return 2")
    assert value(again) == 2
    assert again.worker != first.worker
    assert single.anomalies == 1


def test_killing_a_zygote_takes_its_candidate_along(single: ProcessSandbox) -> None:
    worker = int(run(single, "return 1").worker)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(run, single, "import time\ntime.sleep(2)\nreturn 3")
        time.sleep(0.5)
        below = _descendants(worker)
        os.kill(worker, signal.SIGKILL)
        assert value(job.result()) == 3  # retried on a fresh zygote
    assert len(below) == 2
    assert not any(_alive(pid) for pid in below)


def test_a_zygote_that_keeps_dying_raises(single: ProcessSandbox) -> None:
    stop = threading.Event()

    def reaper() -> None:
        while not stop.wait(0.05):
            for zygote in list(single._workers):
                if zygote.layers is not None:
                    os.kill(zygote.pid, signal.SIGKILL)

    thread = threading.Thread(target=reaper)
    thread.start()
    try:
        with pytest.raises(SandboxUnavailable, match="in a row"):
            run(single, "import time\ntime.sleep(3)")
    finally:
        stop.set()
        thread.join()
    assert value(run(single, "return 4")) == 4


def test_a_stopped_zygote_is_given_up(
    single: ProcessSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eurekaflow.verifiers.exchange.GRACE_S", 1.0)
    first = run(single, "return 1")
    for pid in _descendants(int(first.worker)):
        os.kill(pid, signal.SIGSTOP)
    again = run(single, "return 2", Limits(wall_s=1))
    assert value(again) == 2
    assert single.anomalies == 1
    assert not _alive(int(first.worker))


def _forbid_forks(worker: Worker) -> None:
    if worker._group is None:
        pytest.skip("no control groups here")
    (worker._group._folders[-1] / "pids.max").write_text("0")


def test_a_zygote_that_cannot_fork_is_replaced(single: ProcessSandbox) -> None:
    first = run(single, "return 1")
    for zygote in single._workers:
        _forbid_forks(zygote)
    again = run(single, "return 2")
    assert value(again) == 2
    assert again.worker != first.worker
    assert single.anomalies == 1


def test_a_machine_on_which_no_zygote_can_fork_is_no_bad_candidate(
    single: ProcessSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = Worker._limit_group

    def starved(worker: Worker, limits: Limits) -> int:
        killed = limit(worker, limits)
        _forbid_forks(worker)
        return killed

    monkeypatch.setattr(Worker, "_limit_group", starved)
    with pytest.raises(SandboxUnavailable, match="failed: BlockingIOError"):
        run(single, "return 1")


def test_a_zygote_with_fewer_walls_than_the_first_is_not_used(
    single: ProcessSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "cgroup-memory" not in single.layers:
        pytest.skip("no control groups here")
    monkeypatch.setattr(ControlGroup, "make", lambda: None)
    for zygote in single._workers:
        os.kill(zygote.pid, signal.SIGKILL)
    with pytest.raises(SandboxUnavailable, match="lacks cgroup-memory"):
        run(single, "return 1")


def test_threads_are_counted_where_no_control_group_counts_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ControlGroup, "make", lambda: None)
    body = """
import threading
threading.stack_size(64 << 10)
stop, started = threading.Event(), 0
try:
    while started < 400:
        threading.Thread(target=stop.wait, daemon=True).start()
        started += 1
except RuntimeError: pass
return started
"""
    try:
        with ProcessSandbox(1, levels=("landlock",)) as backend:
            assert 32 <= value(run(backend, body)) <= 100
    except SandboxUnavailable as reason:
        pytest.skip(str(reason))


def test_zygotes_are_recycled_after_their_count() -> None:
    with ProcessSandbox(1, recycle_after=3) as backend:  # the canary is the first job
        workers = [run(backend, "return 1").worker for _ in range(5)]
        assert workers[0] == workers[1] != workers[2] == workers[3] == workers[4]
        assert backend.anomalies == 0


def test_programs_that_name_scipy_have_a_zygote_of_their_own(single: ProcessSandbox) -> None:
    plain = run(single, "return 1")
    wide = run(single, "import scipy.optimize\nreturn 1")
    assert value(wide) == 1
    assert plain.worker != wide.worker
    assert run(single, "return 1").worker == plain.worker


def test_a_forged_result_is_only_data(single: ProcessSandbox) -> None:
    body = "import os\nos.write(3, b'R[1e9]')\nos._exit(0)"
    execution = run(single, body)
    assert execution.result == b"[1e9]"
    assert run(single, "import os\nos.write(3, b'pickle')\nos._exit(0)").cause is Cause.NO_RESULT


def test_a_required_layer_that_is_missing_refuses() -> None:
    with pytest.raises(SandboxUnavailable, match="gvisor"):
        ProcessSandbox(1, required=frozenset({"seccomp", "gvisor"}))


def test_no_level_refuses_unless_asked_to_be_unsafe() -> None:
    with pytest.raises(SandboxUnavailable, match="cannot be confined"):
        ProcessSandbox(1, levels=())
    with ProcessSandbox(1, levels=(), unsafe=True) as backend:
        assert backend.layers == ("rlimits",)
        assert value(run(backend, "return 1")) == 1


def test_a_closed_sandbox_raises_and_leaves_no_process() -> None:
    backend = ProcessSandbox(2)
    below = [pid for one in backend._workers for pid in (one.pid, *_descendants(one.pid))]
    backend.close()
    assert not any(map(_alive, below))
    with pytest.raises(SandboxUnavailable, match="closed"):
        run(backend, "return 1")


def test_no_descriptor_is_leaked(single: ProcessSandbox) -> None:
    run(single, "return 1")
    before = len(os.listdir("/proc/self/fd"))
    for body in ("return 1", "1 / 0", "import os\nos._exit(1)"):
        run(single, body)
    assert len(os.listdir("/proc/self/fd")) == before


def test_zygotes_die_with_their_host() -> None:
    script = (
        "from eurekaflow.verifiers.process import ProcessSandbox\n"
        "import os, time\n"
        "s = ProcessSandbox(1)\n"
        "print(*[w.pid for w in s._workers], flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while any(_alive(int(pid)) for pid in done.stdout.split()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_closing_ends_running_jobs() -> None:
    backend = ProcessSandbox(2)
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(run, backend, "import time\ntime.sleep(60)") for _ in range(3)]
        time.sleep(0.5)
        started = time.monotonic()
        backend.close()
        for job in jobs:
            with pytest.raises(SandboxUnavailable, match="closed"):
                job.result()
    assert time.monotonic() - started < 10
