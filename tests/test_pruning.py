"""Pruning: what goes, what stays whatever the policy, and that it is written down."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eurekaflow.flows import cli
from eurekaflow.models.archive import Archive, CheckpointRow, Hold
from eurekaflow.models.errors import RunOwned
from tests.archives import expand, new_run, planned, sample, seeds, verdict

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = pytest.mark.services
STEPS = 6


@pytest.fixture
def long(archive: Archive, hold: Hold) -> Archive:
    """Six committed steps with checkpoints, and a seventh that is only sampled."""
    archive.add_seeds(hold, seeds(-0.9))
    seed = archive.attempts(hold.run_id, -1)[0].id
    best = seed
    for step in range(STEPS):
        better = (-0.8 + step / 100, f"improvement {step}")
        ids = expand(archive, hold, step, [(best, [better, None]), (seed, [-0.85, -0.86])])
        best = ids[0][0]
        weights = CheckpointRow(step=step, version=step + 1, path="x", sha256="x")
        archive.commit_step(hold, step, weights)
    sample(archive, hold, archive.plan(hold, STEPS, [planned(best, size=2)]))
    archive.mark_pruned(hold, {0: "old", 1: "old"})  # the oldest kept one is that of step 2
    hold.release("paused")
    return archive


def ask(archive: Archive, sql: str) -> list[Any]:
    return archive.query(sql, as_reader=False)[1]


def test_tokens_newer_than_the_oldest_kept_checkpoint_stay(long: Archive) -> None:
    done = long.prune(1, keep_steps=0)
    assert (done.until_step, done.tokens_until, done.tokens) == (5, 2, 12)
    left = """select a.step, count(*) from archive.tokens t join archive.attempts a
        on a.id = t.attempt_id group by 1 order by 1"""
    assert ask(long, left) == [(3, 4), (4, 4), (5, 4), (6, 2)]


def test_steps_that_are_to_be_kept_or_open_stay_whole(long: Archive) -> None:
    assert long.prune(1, keep_steps=4).until_step == 1
    whole = "select count(*) from attempt_bodies where step >= 2 and response is null"
    assert ask(long, whole) == [(0,)]
    assert long.prune(1, keep_steps=100).bodies == 0


def test_no_attempt_is_touched_and_the_tree_keeps_its_programs(long: Archive) -> None:
    before = ask(long, "select to_jsonb(a) from archive.attempts a order by id")
    kept = """select b.attempt, b.program from attempt_bodies b where b.program is not null
        and b.attempt in (select attempt from tree union select attempt from best_attempts
        union select ancestor from lineage where attempt in (select attempt from tree))"""
    programs = ask(long, kept)
    assert len(programs) > STEPS
    assert long.prune(1, keep_steps=0).bodies > 0
    assert ask(long, "select to_jsonb(a) from archive.attempts a order by id") == before
    assert sorted(ask(long, kept)) == sorted(programs)
    assert long.check_rebuild(1) == []


def test_what_is_pruned_reads_as_null_and_its_program_is_not_found(long: Archive) -> None:
    gone = "select attempt from attempt_bodies where program is null and outcome = 'valid'"
    assert ask(long, gone) == []
    names = "select count(*) from programs where program like 'attempt %'"
    ((before,),) = ask(long, names)
    long.prune(1, keep_steps=0)
    lost = [row[0] for row in ask(long, gone)]
    assert lost
    assert long.program(lost[0]) is None
    assert ask(long, names) == [(before - len(lost),)]


def test_a_text_that_another_run_shares_stays(long: Archive) -> None:
    run = new_run(long)
    with long.hold(run.id, owner="another") as hold:
        long.add_seeds(hold, seeds(-0.9))
        groups = long.plan(hold, 0, [planned(long.attempts(run.id, -1)[0].id, size=1)])
        sample(long, hold, groups)  # the same prompt and response as in the other run
    long.prune(1, keep_steps=0)
    sql = "select prompt, response from attempt_bodies where run_id = 2 and step = 0"
    assert ask(long, sql) == [("Find something.", "```python\npass\n```")]


def test_a_pruned_text_that_is_found_again_is_whole_again(long: Archive) -> None:
    long.prune(1, keep_steps=0)
    gone = "select attempt from attempt_bodies where program is null and outcome = 'valid'"
    (attempt,) = ask(long, gone)[0]
    run = new_run(long)
    with long.hold(run.id, owner="another") as hold:
        long.add_seeds(hold, seeds(-0.9))
        sample(long, hold, long.plan(hold, 0, [planned(long.attempts(run.id, -1)[0].id, size=1)]))
        again = long.attempts(run.id, 0)[0].id
        long.store_verdicts(hold, 0, [verdict(again, -0.5, f"attempt {attempt}")])
    assert long.program(attempt) == long.program(again) == f"attempt {attempt}"


def test_a_run_in_work_is_not_pruned(archive: Archive, hold: Hold) -> None:
    with pytest.raises(RunOwned, match="the test"):
        archive.prune(hold.run_id)


def test_the_command_says_what_goes_and_the_archive_remembers(
    long: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUREKA_DATABASE_URL", long.url)
    command = ["db", "prune", "last", "--keep-steps", "1", "--json"]
    assert cli.main([*command, "--dry-run"]) == 0
    (dry,) = json.loads(capsys.readouterr().out)
    assert ask(long, "select count(*) from prunings") == [(0,)]
    assert cli.main(command) == 0
    assert json.loads(capsys.readouterr().out) == [dry]
    recorded = "select until_step, tokens_until, tokens, bodies, bytes from prunings"
    names = ("until_step", "tokens_until", "tokens", "bodies", "bytes")
    assert ask(long, recorded) == [tuple(dry[name] for name in names)]
    assert cli.main(["db", "prune", "all", "--keep-steps", "1", "--tokens"]) == 0
    assert "tokens of 0 attempts and 0 texts" in capsys.readouterr().out
    assert cli.main(["db", "prune", "all", "--keep-steps", "-1"]) == 2


def test_a_finished_run_that_never_trained_needs_no_tokens(archive: Archive, hold: Hold) -> None:
    archive.add_seeds(hold, seeds(-0.9))
    expand(archive, hold, 0, [(archive.attempts(hold.run_id, -1)[0].id, [-0.8, None])])
    archive.commit_step(hold, 0)
    hold.release("paused")
    assert archive.prune(hold.run_id, keep_steps=0).tokens == 0
    with archive.hold(hold.run_id, owner="again") as again:
        archive.finish(again, "finished")
    assert archive.prune(hold.run_id, keep_steps=0).tokens == 2
