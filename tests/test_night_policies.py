"""Which run a night works on: what `choose` does by policy and by how the last run stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from eurekaflow.flows import night_work
from eurekaflow.flows.configure import Surroundings
from eurekaflow.flows.night_plan import plan_of
from eurekaflow.flows.night_runs import Shift, choose
from eurekaflow.models import postgres
from eurekaflow.models.archive import Archive, RunRow
from tests.archives import seeds
from tests.scripted_run import SIZES, add_run

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = pytest.mark.services

NAME = "night_policies"
PLANNED = {k: v for k, v in {**SIZES, "steps": 4}.items() if k != "minutes"}  # of new runs
STEPS = 6  # of the run that is there already
Make = Callable[..., Shift]


@pytest.fixture(scope="module")
def archive(cluster: postgres.Cluster, migrated: None) -> Iterator[Archive]:
    """One archive for all: every test has a schedule of its own."""
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(f"create database {NAME} template eureka_template".encode())
        opened = Archive(cluster.url_of(NAME))
        yield opened
        opened.close()
        connection.execute(f"drop database {NAME} with (force)".encode())


@pytest.fixture
def shift(archive: Archive, tmp_path: Path) -> Make:
    """Make the shift of a schedule's night, under a policy."""
    name = f"n{uuid4().hex[:8]}"
    row = archive.add_schedule(name, cron="0 1 * * *", timezone="UTC", plan={"problem": "erdos"})
    due = datetime(2026, 11, 1, 1, tzinfo=UTC)
    night = archive.begin_night(row.id, due, kind="scheduled", host="here", deadline=None)
    assert night is not None

    def make(policy: str = "continue", **settings: Any) -> Shift:
        plan = plan_of({"problem": "erdos", "policy": policy, "settings": {**PLANNED, **settings}})
        return Shift(archive, archive.url, Surroundings(home=tmp_path), row, plan, night)

    return make


def last_run(
    shift: Shift, state: str = "created", rule: str | None = None, **settings: Any
) -> RunRow:
    """The schedule's newest run, left in a state by a rule."""
    archive = shift.archive
    run = add_run(archive.url, steps=STEPS, seed=7, **settings)
    archive.assign_run(run.uuid, shift.row.id)
    if state != "created":
        with archive.hold(run.id, owner="the night before") as hold:
            archive.add_seeds(hold, seeds(-0.5, -0.4))
            archive.finish(hold, state, "", rule=rule)
    return run


@pytest.mark.parametrize("policy", ["start", "resume", "continue"])
def test_a_schedule_without_a_run_starts_one_whatever_its_policy(shift: Make, policy: str) -> None:
    tonight = shift(policy, seed=3)
    made, verb, steps = choose(tonight)
    assert (verb, steps) == ("started", None)
    found = tonight.archive.last_run(tonight.row.id)
    assert found is not None
    assert (found.uuid, found.state) == (made, "created")
    assert (found.config["seed"], found.config["steps"]) == (3, PLANNED["steps"])


# What the policies other than `start` do with the last run: its state, the rule that ended it, its
# settings; what `resume` and what `continue` do, {run} being the last run's short name.
NOTHING, LEFT = "nothing to resume: {run} is ", "nothing to do: {run} ended by "
RESTART = {"when_stuck": "restart"}
CASES: list[tuple[str, str | None, dict[str, str], str, str]] = [
    ("created", None, {}, "continued", "continued"),
    ("paused", None, {}, "continued", "continued"),
    ("paused", "deadline", {}, "continued", "continued"),
    ("paused", "night", {}, "continued", "continued"),
    ("failed", None, {}, "continued", "continued"),
    ("failed", "poison", {}, f"{NOTHING}failed", "started"),
    ("failed", "poison", RESTART, f"{NOTHING}failed", "started"),
    ("finished", None, {}, f"{NOTHING}finished", "lengthened"),
    ("finished", None, RESTART, f"{NOTHING}finished", "lengthened"),
    ("finished", "budget", {}, f"{NOTHING}finished", f"{LEFT}budget"),
    ("finished", "budget", RESTART, f"{NOTHING}finished", f"{LEFT}budget"),
    ("finished", "target", {}, f"{NOTHING}finished", f"{LEFT}target"),
    ("finished", "record", {}, f"{NOTHING}finished", f"{LEFT}record"),
]
RESTARTED = "restarted {run} with fresh weights as"
for stuck in ("flat", "entropy", "validity"):
    CASES += [
        ("finished", stuck, {}, f"{NOTHING}finished", f"{LEFT}{stuck}"),
        ("finished", stuck, RESTART, f"{NOTHING}finished", RESTARTED),
    ]


@pytest.mark.parametrize(("state", "rule", "settings", "resumed", "continued"), CASES)
def test_resume_and_continue_go_by_how_the_last_run_ended(
    shift: Make,
    state: str,
    rule: str | None,
    settings: dict[str, str],
    resumed: str,
    continued: str,
) -> None:
    last = last_run(shift(), state, rule, **settings)
    for policy, expected in (("resume", resumed), ("continue", continued)):
        tonight = shift(policy)
        chosen, verb, steps = choose(tonight)
        assert verb == expected.format(run=str(last.uuid)[:8])
        more = STEPS + PLANNED["steps"] if verb == "lengthened" else None
        assert steps == more
        newest = tonight.archive.last_run(tonight.row.id)
        assert newest is not None
        if expected in ("continued", "lengthened"):
            assert chosen == newest.uuid == last.uuid
        elif expected in ("started", RESTARTED):
            assert chosen == newest.uuid != last.uuid
            assert newest.config["seed"] == 8
            origin = tonight.archive.run(newest.uuid).forked_from
            assert origin == (last.id if expected == RESTARTED else None)
        else:
            assert chosen is None
            assert newest.uuid == last.uuid


@pytest.mark.parametrize(
    ("state", "rule"),
    [("paused", "deadline"), ("finished", None), ("finished", "flat"), ("failed", "poison")],
)
def test_start_begins_a_new_run_with_the_next_seed_every_night(
    shift: Make, state: str, rule: str | None
) -> None:
    tonight = shift("start", seed=3)
    last = last_run(tonight, state, rule, **RESTART)
    made, verb, steps = choose(tonight)
    assert (verb, steps) == ("started", None)
    assert made not in (None, last.uuid)
    assert tonight.archive.run(str(made)).seed == 8  # after the last run's, not the plan's


@pytest.mark.parametrize("policy", ["resume", "continue"])
def test_a_run_that_is_at_work_elsewhere_is_left_there(shift: Make, policy: str) -> None:
    tonight = shift(policy)
    last = last_run(tonight)
    with tonight.archive.hold(last.id, owner="somebody"):
        chosen, verb, steps = choose(tonight)
    assert (chosen, verb, steps) == (None, f"{str(last.uuid)[:8]} is at work elsewhere", None)


def test_a_run_that_used_up_unbounded_steps_is_lengthened_by_as_many(shift: Make) -> None:
    """A plan that bounds neither steps nor minutes bounds its runs by nights alone."""
    tonight = shift()
    unbounded = {k: v for k, v in PLANNED.items() if k != "steps"}
    tonight = replace(tonight, plan=plan_of({"problem": "erdos", "settings": unbounded}))
    last = last_run(tonight, "finished")
    assert choose(tonight) == (last.uuid, "lengthened", STEPS + 10_000)


@pytest.mark.parametrize(("policy", "restarts"), [("resume", 0), ("continue", 1)])
def test_a_run_that_gets_stuck_tonight_is_restarted_tonight_unless_the_policy_only_resumes(
    shift: Make, monkeypatch: pytest.MonkeyPatch, policy: str, restarts: int
) -> None:
    def stuck(tonight: Shift, run: UUID, *, steps: int | None = None) -> str:
        with tonight.archive.hold(tonight.archive.run(run).id, owner="tonight") as hold:
            tonight.archive.finish(hold, "finished", "", rule="flat")
        return "stuck"

    monkeypatch.setattr(night_work, "sit", stuck)
    tonight = shift(policy)
    last = last_run(tonight, "paused", "deadline", when_stuck="restart")
    # What other tests left as crashed, any night resumes first.
    said = [line for line in night_work.sittings(tonight) if not line.startswith("resumed")]
    assert said[0] == f"continued {str(last.uuid)[:8]}: stuck"
    assert len(said) == 1 + restarts
