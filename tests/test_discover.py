"""The six stages on a real database, sandbox and judge, with a scripted policy."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eurekaflow.models import schema
from eurekaflow.models.archive import Archive, AttemptRow, RunRow
from eurekaflow.models.errors import RunOwned
from eurekaflow.tasks import session
from tests.scripted_run import STAGES, add_run, place, work

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("warm_sandbox")]

TREE = """
    select seq, step, group_index, attempt_index, outcome, value, reward, eligible,
        visits_expansion, visits_rollout, best_child, encode(program_hash, 'hex') as program,
        encode(construction_hash, 'hex') as construction
    from archive.attempts where run_id = %s order by seq"""
WEIGHTS = "select step, sha256 from archive.checkpoints where run_id = %s order by step"


@pytest.fixture
def archive(database_url: str) -> Iterator[Archive]:
    schema.bootstrap(database_url)
    opened = Archive(database_url)
    yield opened
    opened.close()


def discover(archive: Archive, home: Path, **settings: Any) -> RunRow:
    """A run worked on to its end in this process."""
    run = add_run(archive.url, **settings)
    session.configure(place(archive.url, home))
    try:
        work(str(run.uuid))
    finally:
        session.close(str(run.uuid), "finished")
    return run


def content(archive: Archive, run: RunRow, sql: str) -> list[tuple[Any, ...]]:
    return archive.query(sql, params=(run.id,), as_reader=False)[1]


def test_a_run_commits_every_step_and_archives_every_attempt(
    archive: Archive, tmp_path: Path
) -> None:
    run = discover(archive, tmp_path)
    _, steps = archive.query("select stage from archive.steps", as_reader=False)
    assert steps == [("committed",)] * 3
    _, counts = archive.query("select count(*), count(outcome) from attempts where step >= 0")
    assert counts == [(36, 36)]
    totals = archive.totals(run.id)
    assert totals.best is not None
    assert totals.seed is not None
    assert totals.best > totals.seed
    assert archive.check_rebuild(run.id) == []


def test_only_the_newest_checkpoints_stay_on_disk_and_the_rows_say_so(
    archive: Archive, tmp_path: Path
) -> None:
    run = discover(archive, tmp_path)
    folders = sorted(p.name for p in (tmp_path / "runs" / str(run.uuid) / "checkpoints").iterdir())
    states = [(row.version, row.state) for row in archive.checkpoints(run.id)]
    assert folders == ["00002-1", "00003-1"]
    assert states == [(1, "pruned"), (2, "kept"), (3, "kept")]


def test_the_policy_learns_which_answers_are_valid(archive: Archive, tmp_path: Path) -> None:
    run = discover(archive, tmp_path, steps=10, group_size=8, wave=8, lr=0.5)
    _, rows = archive.query(
        "select step, avg((outcome = 'valid')::int) from attempts where step >= 0"
        " and run_id = %s group by step order by step",
        params=(run.id,),
    )
    fractions = [float(fraction) for _, fraction in rows]
    assert sum(fractions[-2:]) > sum(fractions[:2]) + 0.3


@pytest.mark.slow
def test_a_run_killed_after_each_stage_ends_as_one_never_killed(
    archive: Archive, tmp_path: Path
) -> None:
    twin = discover(archive, tmp_path / "twin")
    run = add_run(archive.url)
    command = [sys.executable, "-m", "tests.scripted_run", archive.url, str(tmp_path)]
    ends = [f"{stage}:1" for stage in STAGES]
    subprocess.run([*command, str(run.uuid), *ends], check=True)
    assert content(archive, run, TREE) == content(archive, twin, TREE)
    assert content(archive, run, WEIGHTS) == content(archive, twin, WEIGHTS)
    assert archive.check_rebuild(run.id) == []


def test_a_stage_that_runs_twice_changes_nothing(archive: Archive, tmp_path: Path) -> None:
    run = add_run(archive.url, steps=1)
    run_id = str(run.uuid)
    session.configure(place(archive.url, tmp_path))
    try:
        work(run_id)
        before = content(archive, run, TREE), content(archive, run, WEIGHTS)
        for stage in STAGES.values():
            stage.fn(run_id, 0)
        assert (content(archive, run, TREE), content(archive, run, WEIGHTS)) == before
    finally:
        session.close(run_id)


def test_a_second_process_on_the_same_run_is_refused_with_the_owners_name(
    archive: Archive, tmp_path: Path
) -> None:
    run = add_run(archive.url)
    session.configure(place(archive.url, tmp_path))
    with archive.hold(run.id, owner="a process elsewhere"):
        with pytest.raises(RunOwned, match="a process elsewhere"):
            work(str(run.uuid))
        session.close(str(run.uuid))


@pytest.mark.parametrize(
    ("advantage", "reuse"),
    [
        ("entropic_adaptive", "puct"),
        ("entropic", "puct"),
        ("mean_baseline", "puct"),
        ("none", "puct"),
        ("entropic_adaptive", "greedy"),
        ("entropic_adaptive", "fixed"),
        ("mean_baseline", "fixed"),
        ("none", "fixed"),
    ],
)
def test_every_arm_of_the_ablation_is_a_configuration(
    archive: Archive, tmp_path: Path, advantage: str, reuse: str
) -> None:
    run = discover(archive, tmp_path, steps=2, advantage=advantage, reuse=reuse)
    assert archive.totals(run.id).steps == 2
    assert bool(archive.checkpoints(run.id)) == (advantage != "none")
    parents = {group.parent_id for group in archive.groups(run.id, 1)}
    seeds = {attempt.id for attempt in archive.attempts(run.id, -1)}
    assert (parents <= seeds) == (reuse == "fixed")


def test_greedy_groups_start_from_the_best_child_of_each_parent(
    archive: Archive, tmp_path: Path
) -> None:
    run = discover(archive, tmp_path, steps=3, groups=4, reuse="greedy", epsilon=0.0)
    for step in (1, 2):
        chosen = [group.parent_id for group in archive.groups(run.id, step)]
        before = [row for at in range(step) for row in archive.attempts(run.id, at)]
        best: dict[int | None, AttemptRow] = {}
        for row in sorted(before, key=lambda r: (-(r.value or 0.0), r.seq)):
            if row.value is not None and row.outcome == "valid":
                best.setdefault(row.parent_id, row)
        kept = [row.id for row in best.values()][:8]
        assert chosen == [kept[i % len(kept)] for i in range(4)]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    archive: Archive, tmp_path: Path
) -> None:
    one, two = (discover(archive, tmp_path / str(i), steps=2) for i in range(2))
    other = discover(archive, tmp_path / "other", steps=2, seed=7)
    assert content(archive, one, TREE) == content(archive, two, TREE)
    assert content(archive, one, TREE) != content(archive, other, TREE)


def test_minutes_end_a_run_but_not_before_its_smallest_number_of_steps(
    archive: Archive, tmp_path: Path
) -> None:
    run = discover(archive, tmp_path, steps=50, minutes=0.001, min_steps=2)
    assert archive.totals(run.id).steps == 2


def test_a_step_in_numbers_adds_up(archive: Archive, tmp_path: Path) -> None:
    run = discover(archive, tmp_path, steps=1)
    summary = archive.step_summary(run.id, 0)
    assert summary.attempts == 12
    assert set(summary.seconds) == {"plan", "sample", "verify", "archive", "update", "checkpoint"}
    assert math.isclose(archive.seconds_spent(run.id), sum(summary.seconds.values()))
