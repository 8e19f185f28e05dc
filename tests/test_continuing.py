"""Continuing on purpose: forks, new bounds, fresh policies, and what is told before the start."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from eurekaflow.flows import branching, cli, launch
from eurekaflow.flows.standing import Goals, adjust, lines, standing
from eurekaflow.models import local, weights
from eurekaflow.models.archive import RunRow
from eurekaflow.models.errors import UsageError
from eurekaflow.models.scripted import ScriptedPolicy
from eurekaflow.models.settings import RunConfig
from eurekaflow.tasks import session
from eurekaflow.tasks.restore import find, make_resident
from eurekaflow.tasks.sample import prompt_of, waves
from tests.archives import planned, response, verdict
from tests.scripted_run import STAGES
from tests.trained_runs import TREE, WEIGHTS, TrainedRuns, delete, flip

pytest_plugins = ("tests.archive_fixtures", "tests.trained_fixtures")
pytestmark = pytest.mark.services


def fork(runs: TrainedRuns, run: RunRow, at_step: int, **changes: object) -> RunRow:
    return branching.fork(
        runs.archive.url, runs.home, str(run.uuid), at_step=at_step, changes=changes
    )


def plan_by_hand(s: session.Session, step: int, *answered: int) -> None:
    """A planned step of one group of four, some slots answered."""
    parent = s.archive.attempts(s.run.id, -1)[0].id
    s.archive.plan(s.hold, step, [planned(parent)])
    s.archive.store_responses(s.hold, step, 0, [response(slot) for slot in answered])


def verify_by_hand(s: session.Session, step: int) -> None:
    """Failed verdicts for what was sampled."""
    rows = [verdict(a.id, None) for a in s.archive.attempts(s.run.id, step)]
    s.archive.store_verdicts(s.hold, step, rows)
    STAGES["archive"].fn(str(s.run.uuid), step)


class TestForks:
    def test_a_fork_without_changes_goes_on_as_the_run_itself(self, scripted: TrainedRuns) -> None:
        run = scripted.add(keep_checkpoints=9)
        scripted.learn(run, 0, 1, 2, 3)
        made = fork(scripted, run, 1)
        scripted.learn(made, 2, 3)
        assert scripted.content(made, TREE) == scripted.content(run, TREE)
        assert scripted.content(made, WEIGHTS) == scripted.content(run, WEIGHTS)
        assert scripted.archive.check_rebuild(made.id) == []

    def test_a_fork_knows_its_past_only_and_leaves_the_other_run_alone(
        self, scripted: TrainedRuns
    ) -> None:
        run = scripted.add()
        scripted.learn(run, 0, 1, 2)
        before = scripted.content(run, TREE)
        made = fork(scripted, run, 1, lr=0.5)
        assert scripted.content(run, TREE) == before
        assert scripted.archive.check_rebuild(made.id) == []
        _, told = scripted.archive.query(
            "select forked_from, fork_step, steps, attempts, state, config->>'lr' from runs"
            " where run_id = %s",
            params=(made.id,),
        )
        assert told == [(run.uuid, 1, 2, 8, "created", "0.5")]
        of_others = """select count(*) from archive.attempts a join archive.attempts p
            on p.id = any(a.path || a.parent_id) where a.run_id = %s and p.run_id <> a.run_id"""
        assert scripted.content(made, of_others) == [(0,)]

    def test_a_fork_replays_its_copied_steps_with_their_own_settings(
        self, scripted: TrainedRuns
    ) -> None:
        run = scripted.add()
        scripted.learn(run, 0, 1)
        made = fork(scripted, run, 1, lr=0.5, seed=9)
        for folder in scripted.folders(made):
            delete(folder)
        s = scripted.open(made)
        make_resident(s, 2)
        session.close(str(made.uuid))
        assert scripted.content(made, WEIGHTS) == scripted.content(run, WEIGHTS)
        assert not [note for note in scripted.notes if "not identical" in note]
        scripted.learn(made, 2)
        scripted.learn(run, 2)
        assert scripted.content(made, WEIGHTS)[2] != scripted.content(run, WEIGHTS)[2]

    def test_weights_that_were_pruned_are_replayed_for_the_fork(
        self, scripted: TrainedRuns
    ) -> None:
        run = scripted.add(keep_checkpoints=1)
        scripted.learn(run, 0, 1, 2)
        made = fork(scripted, run, 1)
        s = scripted.open(made)
        assert [row.step for row in find(s, 2).replayed] == [0, 1]
        make_resident(s, 2)
        assert s.policy.weights is not None  # type: ignore[attr-defined]
        session.close(str(made.uuid))
        assert scripted.content(made, WEIGHTS) == scripted.content(run, WEIGHTS)[:2]

    @pytest.mark.parametrize(
        ("at_step", "changes", "told"),
        [
            (2, {}, "no committed step 2: steps 0 to 1"),
            (1, {"lora_rank": 8}, "lora_rank cannot change"),
            (1, {"problem": "circle_packing_26"}, "keeps the problem"),
            (1, {"lr": "-1"}, "lr"),
        ],
    )
    def test_a_fork_that_cannot_be_is_refused_and_leaves_nothing(
        self, scripted: TrainedRuns, at_step: int, changes: dict[str, Any], told: str
    ) -> None:
        run = scripted.add()
        scripted.learn(run, 0, 1)
        with pytest.raises(UsageError, match=told):
            fork(scripted, run, at_step, **changes)
        assert len(scripted.archive.runs()) == 1


class TestFreshPolicy:
    def test_a_fresh_policy_keeps_the_tree_and_counts_its_updates_anew(
        self, scripted: TrainedRuns
    ) -> None:
        run = scripted.add(keep_checkpoints=9)
        scripted.learn(run, 0, 1)
        before = scripted.content(run, TREE)
        s = scripted.open(run)
        adjust(s, Goals(fresh_policy=True))
        assert find(s, 2).wanted is None
        session.close(str(run.uuid))
        assert scripted.content(run, TREE) == before
        scripted.learn(run, 2, 3)
        rows = scripted.archive.checkpoints(run.id)
        assert [(row.step, row.version) for row in rows] == [(0, 1), (1, 2), (2, 1), (3, 2)]
        for folder in scripted.folders(run):
            delete(folder)
        s = scripted.open(run)
        assert [row.step for row in find(s, 4).replayed] == [2, 3]
        make_resident(s, 4)
        session.close(str(run.uuid))
        assert not [note for note in scripted.notes if "not identical" in note]

    def test_a_step_begun_by_the_old_policy_is_finished_and_trains_nothing(
        self, scripted: TrainedRuns
    ) -> None:
        run = scripted.add()
        scripted.learn(run, 0)
        s = scripted.open(run)
        plan_by_hand(s, 1, 0, 1)
        adjust(s, Goals(fresh_policy=True))
        [group] = s.archive.groups(run.id, 1)
        [wave] = waves(s, 1, group, (2, 3))
        assert wave.slots == (2, 3)
        assert wave.prompt_ids == s.policy.encode(prompt_of(group)) != group.prompt_ids
        s.archive.store_responses(s.hold, 1, 0, [response(2), response(3)])
        verify_by_hand(s, 1)
        for name in ("update", "checkpoint"):
            STAGES[name].fn(str(run.uuid), 1)
        session.close(str(run.uuid))
        assert [row.step for row in scripted.archive.checkpoints(run.id)] == [0]
        assert scripted.archive.totals(run.id).steps == 2

    def test_another_model_needs_a_fresh_policy(self, scripted: TrainedRuns) -> None:
        run = scripted.add()
        s = scripted.open(run)
        try:
            with pytest.raises(UsageError, match="other weights"):
                adjust(s, Goals(model="another"))
            adjust(s, Goals(model="another", fresh_policy=True))
            assert s.config.model == "another"
        finally:
            session.close(str(run.uuid))
        _, told = scripted.archive.query("select policies->'0'->>'model' from runs")
        assert told == [("another",)]


class TestBounds:
    @pytest.mark.parametrize(
        ("goals", "expected"),
        [
            (Goals(steps=9), (9, None)),
            (Goals(minutes=7.0), (10_000, 7.0)),
            (Goals(steps=9, minutes=7.0), (9, 7.0)),
            (Goals(), (3, None)),
        ],
    )
    def test_a_run_is_lengthened_by_steps_or_minutes(
        self, scripted: TrainedRuns, goals: Goals, expected: tuple[int, float | None]
    ) -> None:
        run = scripted.add(steps=3)
        s = scripted.open(run)
        adjust(s, goals)
        assert (s.config.steps, s.config.minutes) == expected
        session.close(str(run.uuid))
        stored = scripted.archive.run(run.id).config
        assert (stored["steps"], stored["minutes"]) == expected

    def test_a_bound_that_cannot_be_is_refused(self, scripted: TrainedRuns) -> None:
        s = scripted.open(scripted.add())
        with pytest.raises(UsageError, match="steps"):
            adjust(s, Goals(steps=0))
        session.close(str(s.run.uuid))


class TestTelling:
    def test_what_survived_and_what_is_redone_is_told(self, scripted: TrainedRuns) -> None:
        run = scripted.add()
        scripted.learn(run, 0, 1)
        s = scripted.open(run)
        plan_by_hand(s, 2, 1, 3)
        told = list(lines(standing(s)))
        assert told == [
            "survived: 2 steps, 10 attempts, weights of step 1 (version 2, every hash right)",
            "continues with step 2, which is planned: 2 responses are sampled again "
            "(group 0: 0, 2) and 2 responses are verified again",
        ]
        flip(scripted.folders(run)[-1])
        told = list(lines(standing(s)))
        session.close(str(run.uuid))
        assert "weights of step 0" in told[0]
        assert "altered: sha256" in told[1]
        assert told[2] == (
            "redone: the update is replayed from the weights of step 0, "
            "without sampling or verifying anything"
        )

    def test_an_update_that_is_in_no_file_is_told_as_work_to_be_redone(
        self, scripted: TrainedRuns
    ) -> None:
        run = scripted.add(steps=9, checkpoint_every=8)
        scripted.learn(run, 0)
        scripted.learn(run, 1, commit=False)
        s = scripted.open(run)
        told = list(lines(standing(s)))
        session.close(str(run.uuid))
        assert told[1:] == [
            "redone: the update of step 1 is replayed too: its weights are in no file",
            "continues with step 1, which is updated: no response and no verdict is missing",
        ]

    def test_show_tells_owner_lease_stage_and_missing_slots(
        self,
        scripted: TrainedRuns,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("EUREKA_DATABASE_URL", scripted.archive.url)
        run = scripted.add()
        scripted.learn(run, 0)
        s = scripted.open(run)
        plan_by_hand(s, 1, 1, 3)
        assert cli.main(["show", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert cli.main(["show"]) == 0
        shown = capsys.readouterr().out
        session.close(str(run.uuid))
        assert found["owner"].endswith(f":{os.getpid()}")
        assert found["stage"] == "planned"
        assert found["lease_until"] is not None
        assert found["weights_of_step"] == 0
        [missing] = found["missing"]
        assert (missing["without_response"], missing["without_verdict"]) == ([0, 2], [1, 3])
        assert "group 0: responses 0, 2 and verdicts 1, 3" in shown

    def test_the_fingerprint_decides_between_identical_and_equivalent(
        self, scripted: TrainedRuns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = scripted.add()
        for expected, device in [("identical to", "cpu"), ("other device: equivalent", "tpu")]:
            print_ = {"model": "scripted", "device": device, "dtype": "float64"}
            monkeypatch.setattr(ScriptedPolicy, "fingerprint", lambda _, p=print_: p)
            s = scripted.open(run)
            launch.open_policy(s)
            session.close(str(run.uuid))
            scripted.learn(run, 0)
            if device == "tpu":
                assert expected in scripted.notes[-1]
        assert s.changed == {"device": ["cpu", "tpu"]}

    def test_other_versions_are_told_and_marked_on_the_steps_they_made(
        self, scripted: TrainedRuns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = scripted.add()
        with scripted.archive._read() as connection:
            connection.exec_driver_sql(
                """update archive.runs set versions = '{"template": "0", "problem": "0"}'"""
            )
        scripted.learn(run, 0)
        s = scripted.open(run)
        launch.open_policy(s)
        STAGES["plan"].fn(str(run.uuid), 1)
        session.close(str(run.uuid))
        assert "other versions than the run was made with" in scripted.notes[0]
        assert "equivalent, not identical" in scripted.notes[1]
        _, marks = scripted.archive.query(
            "select changed->'template'->>0 from steps order by step"
        )
        assert marks == [(None,), ("0",)]


def test_promises_are_identical_only_for_the_same_fingerprint_versions_and_a_cpu() -> None:
    def last(machine: Any, programs: Any, exact: bool) -> str:
        return list(launch.promises(machine, programs, exact=exact))[-1]

    changed = {"x": ["1", "2"]}
    assert "identical to a run" in last({}, {}, True)
    for machine, programs, exact in [({}, {}, False), (changed, {}, True), ({}, changed, True)]:
        assert "equivalent, not identical" in last(machine, programs, exact)


def test_the_runs_date_reaches_the_chat_template(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(local, "LocalPolicy", lambda folder, **options: given.update(options))
    monkeypatch.setattr(weights, "resolve_model", lambda *_, **__: tmp_path)
    config = RunConfig(problem="erdos", date="2031-05-06")
    session.local_policy(config, session.Place(home=tmp_path, database_url=""))
    assert given["date"] == "2031-05-06"
