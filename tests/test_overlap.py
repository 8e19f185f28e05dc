"""Answers are judged while a policy on a GPU samples on; on a CPU the stages alternate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eurekaflow.models import schema
from eurekaflow.models.archive import Archive
from eurekaflow.models.policy import Response, Wave
from eurekaflow.models.scripted import ScriptedPolicy
from eurekaflow.tasks import overlap, session
from eurekaflow.verifiers.lookup import load
from tests.scripted_run import ANSWERS, add_run, place, work

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("warm_sandbox")]
SIZES: dict[str, Any] = {"groups": 2, "group_size": 8, "wave": 8, "steps": 2, "workers": 2}
JUDGED = """select count(*) from archive.attempts where step = 0 and outcome is not null
    and run_id = (select max(id) from archive.runs)"""
TREE = """select step, group_index, attempt_index, outcome, value, visits_expansion, path
    from archive.attempts where run_id = %s order by seq"""
STAGES = "select step, stage, seconds ? 'verify' from archive.steps where run_id = %s order by 1"


class OnGpu(ScriptedPolicy):
    """A scripted policy that leaves the cores free and promises no bits.

    It looks at its own verdicts as it goes on.
    """

    concurrent = True
    replay: Any = "salvage"

    def __init__(self, archive_url: str, seed: int, *, dies: bool = False) -> None:
        super().__init__(ANSWERS, seed=seed)
        self.archive, self.dies = Archive(archive_url), dies
        self.seen: list[int] = []  # verdicts of step 0 when its last wave begins

    def sample(self, wave: Wave) -> Iterator[Response]:
        if (wave.step, wave.group_index) == (0, 1):
            self.seen.append(self.judged(patience_s=30.0 if self.concurrent else 1.0))
            if self.dies:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().sample(wave)

    def judged(self, patience_s: float) -> int:
        """Verdicts stored so far; waits a while for the first."""
        deadline = time.monotonic() + patience_s
        while True:
            found = int(self.archive.query(JUDGED, as_reader=False)[1][0][0])
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.05)


class OnCpu(OnGpu):
    concurrent = False
    replay = "exact"


@pytest.fixture
def archive(database_url: str) -> Iterator[Archive]:
    schema.bootstrap(database_url)
    opened = Archive(database_url)
    yield opened
    opened.close()


def worked(archive: Archive, home: Path, kind: type[OnGpu], run: Any = None) -> tuple[Any, OnGpu]:
    run = run or add_run(archive.url, **SIZES)
    made: list[OnGpu] = []

    def policy(config: Any, _: Any) -> OnGpu:
        made.append(kind(archive.url, config.seed))
        return made[0]

    session.configure(replace(place(archive.url, home), make_policy=policy))
    work(str(run.uuid))
    session.close(str(run.uuid), "finished")
    return run, made[0]


def asked(archive: Archive, sql: str, run: Any) -> list[tuple[Any, ...]]:
    return archive.query(sql, params=(run.id,), as_reader=False)[1]


def test_verdicts_are_stored_before_sampling_ends_and_the_tree_is_that_of_a_cpu(
    archive: Archive, tmp_path: Path
) -> None:
    plain, alternating = worked(archive, tmp_path / "a", OnCpu)
    assert alternating.seen == [0]
    expected = asked(archive, TREE, plain)
    run, policy = worked(archive, tmp_path / "b", OnGpu)
    assert policy.seen[0] > 0
    assert shape(asked(archive, TREE, run)) == shape(expected)
    assert asked(archive, STAGES, run) == [(0, "committed", True), (1, "committed", True)]


def shape(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows with paths counted, whose ids differ between runs."""
    return [(*row[:-1], len(row[-1])) for row in rows]


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path
from eurekaflow.tasks import session
from tests.scripted_run import place, work
from tests.test_overlap import OnGpu
url, home, run = sys.argv[1:]
policy = lambda config, _: OnGpu(url, config.seed, dies=True)
session.configure(replace(place(url, Path(home)), make_policy=policy))
work(run)
"""


@pytest.mark.slow
def test_a_run_killed_in_between_resumes_to_the_same_tree(
    archive: Archive, tmp_path: Path
) -> None:
    run = add_run(archive.url, **SIZES)
    command = [sys.executable, "-c", KILLED, archive.url, str(tmp_path), str(run.uuid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    before = asked(archive, TREE, run)
    assert 0 < sum(row[3] is not None and row[0] == 0 for row in before) < 16
    worked(archive, tmp_path, OnGpu, run)
    after = asked(archive, TREE, run)
    kept = {row[:3]: row[3:5] for row in before if row[3] is not None}
    assert {row[:3]: row[3:5] for row in after if row[:3] in kept} == kept
    whole, _ = worked(archive, tmp_path / "whole", OnCpu)
    assert shape(after) == shape(asked(archive, TREE, whole))


def test_timed_kernels_find_an_idle_device(archive: Archive, tmp_path: Path) -> None:
    run = add_run(archive.url, **SIZES)
    policy = OnGpu(archive.url, 0)
    session.configure(replace(place(archive.url, tmp_path), make_policy=lambda *_: policy))
    s = session.of(str(run.uuid))
    s.__dict__["problem"] = load("trimul")
    with overlap.judging(s, 0):
        assert not [t for t in threads() if t == "overlap"]
    s.__dict__["problem"] = load("erdos")
    with overlap.judging(s, 0):
        assert "overlap" in threads()
    assert "overlap" not in threads()
    session.close(str(run.uuid))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_what_goes_wrong_meanwhile_is_left_to_the_verify_stage(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no judge")

    monkeypatch.setattr(overlap, "batches", broken)
    monkeypatch.setattr(OnGpu, "judged", lambda self, patience_s: 0)
    run, _ = worked(archive, tmp_path, OnGpu)
    assert archive.totals(run.id).steps == 2
    assert all(row[3] is not None for row in asked(archive, TREE, run))
