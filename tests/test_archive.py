"""The archive's promises: repeatable writes, one owner, a fence, nothing lost or changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eurekaflow.models.archive import (
    Archive,
    CheckpointRow,
    GroupStats,
    Hold,
    RunNotFound,
    RunRow,
    SeedRow,
    StoreCount,
    VerdictRow,
)
from eurekaflow.models.errors import UsageError
from tests.archives import (
    expand,
    new_run,
    planned,
    planned_step,
    response,
    sample,
    seeds,
    settle,
    state,
    verdict,
)

pytest_plugins = ("tests.archive_fixtures",)


@pytest.mark.services
class TestRepeating:
    """Every write, made twice, is made once."""

    def test_a_whole_step_written_twice_is_written_once(
        self, archive: Archive, hold: Hold
    ) -> None:
        self._write_everything(archive, hold)
        once = state(archive)
        self._write_everything(archive, hold)
        assert state(archive) == once

    def _write_everything(self, archive: Archive, hold: Hold) -> None:
        archive.add_seeds(hold, seeds(0.0, 0.0))
        roots = [row.id for row in archive.attempts(hold.run_id, -1)]
        groups = archive.plan(hold, 0, [planned(root, i) for i, root in enumerate(roots)])
        sample(archive, hold, groups)
        archive.stage_done(hold, 0, "sample", 2.0)
        rows = archive.attempts(hold.run_id, 0)
        values = [1.0, None, 2.0, None, 3.0, None, 4.0, None]
        found = [verdict(row.id, v) for row, v in zip(rows, values, strict=True)]
        archive.store_verdicts(hold, 0, found)
        archive.stage_done(hold, 0, "verify", 3.0)
        settle(archive, hold, 0)
        stats = [GroupStats(group_index=0, beta=1.5, kl=0.69, trained=True)]
        archive.record_update(
            hold, 0, group_stats=stats, metrics={"loss": 1.0}, seconds=4.0, staging={"folder": "s"}
        )
        archive.commit_step(hold, 0, CheckpointRow(step=0, version=1, path="c", sha256="5a"))
        archive.add_ledger(hold, 0, "sample", tokens_out=24, cpu_s=1.0)
        archive.mark_pruned(hold, {0: "old"})

    def test_a_later_plan_does_not_change_the_first(self, archive: Archive, hold: Hold) -> None:
        planned_step(archive, hold)
        other = replace(planned(archive.attempts(hold.run_id, -1)[0].id), prompt="Another.")
        assert archive.plan(hold, 0, [other])[0].prompt == "Find something."

    def test_a_verdict_never_changes(self, archive: Archive, hold: Hold) -> None:
        ids = planned_step(archive, hold, size=1)
        archive.store_responses(hold, 0, 0, [response(0)])
        assert archive.store_verdicts(hold, 0, [verdict(ids[0], 1.0)]) == 1
        assert archive.store_verdicts(hold, 0, [verdict(ids[0], 2.0)]) == 0
        assert archive.attempt(ids[0]).value == 1.0

    def test_a_replay_is_compared_and_the_stored_rows_stay(
        self, archive: Archive, hold: Hold
    ) -> None:
        ids = planned_step(archive, hold)
        first = [response(slot) for slot in (0, 1, 2)]
        assert archive.store_responses(hold, 0, 0, first) == StoreCount(inserted=3)
        logprobs = np.nextafter(first[1].logprobs, np.float32(0))
        replayed = [
            first[0],
            replace(first[1], logprobs=logprobs),
            replace(first[2], text="another"),
            response(3),
        ]
        count = archive.store_responses(hold, 0, 0, replayed)
        assert count == StoreCount(inserted=1, identical=1, different=2)
        assert archive.response(ids[2]) == first[2].text

    def test_an_update_may_be_replaced_until_it_is_committed(
        self, archive: Archive, hold: Hold
    ) -> None:
        self._write_everything(archive, hold)
        archive.record_update(
            hold, 0, group_stats=[], metrics={"loss": 9.0}, seconds=1.0, staging=None
        )
        assert archive.step_rows(hold.run_id)[0].metrics["loss"] == 1.0


@pytest.mark.services
class TestRefusing:
    """What the archive does not take."""

    def test_a_seed_needs_a_finite_value(self, archive: Archive, hold: Hold) -> None:
        with pytest.raises(UsageError, match="finite"):
            archive.add_seeds(hold, seeds(0.0, float("nan")))
        assert archive.attempts(hold.run_id, -1) == []

    @pytest.mark.parametrize(
        "wrong",
        [
            VerdictRow(attempt_id=1, outcome="valid"),
            VerdictRow(attempt_id=1, outcome="valid", value=float("inf")),
            VerdictRow(attempt_id=1, outcome="raised", reward=1.0),
            VerdictRow(attempt_id=1, outcome="splendid"),
            VerdictRow(attempt_id=1, outcome="seed", value=1.0),
        ],
    )
    def test_a_verdict_must_be_possible(
        self, archive: Archive, hold: Hold, wrong: VerdictRow
    ) -> None:
        with pytest.raises(UsageError):
            archive.store_verdicts(hold, 0, [wrong])

    def test_a_response_needs_a_planned_slot(self, archive: Archive, hold: Hold) -> None:
        planned_step(archive, hold, size=2)
        with pytest.raises(UsageError, match="no slots"):
            archive.store_responses(hold, 0, 0, [response(2)])

    def test_a_step_waits_for_the_one_before(self, archive: Archive, hold: Hold) -> None:
        planned_step(archive, hold)
        seed = archive.attempts(hold.run_id, -1)[0].id
        with pytest.raises(UsageError, match="settle it"):
            archive.plan(hold, 1, [planned(seed)])

    def test_settling_waits_for_every_verdict(self, archive: Archive, hold: Hold) -> None:
        planned_step(archive, hold)
        with pytest.raises(UsageError, match="4 attempts"):
            settle(archive, hold, 0)

    def test_a_parent_of_another_run_is_refused(self, archive: Archive, hold: Hold) -> None:
        planned_step(archive, hold)
        stranger = archive.attempts(hold.run_id, -1)[0].id
        with archive.hold(new_run(archive).id, owner="the test") as other:
            with pytest.raises(UsageError, match="no attempt of run"):
                archive.plan(other, 0, [planned(stranger)])
            assert archive.progress(other.run_id).stage is None


@pytest.mark.services
class TestReading:
    """What the stages are told."""

    def test_progress_names_what_is_missing(self, archive: Archive, hold: Hold) -> None:
        planned_step(archive, hold)
        archive.store_responses(hold, 0, 0, [response(1), response(3)])
        progress = archive.progress(hold.run_id)
        assert (progress.step, progress.stage) == (0, "planned")
        assert progress.missing == archive.missing(hold.run_id, 0) == {0: (0, 2)}
        assert progress.unverified == 2

    def test_after_a_commit_the_next_step_is_due(self, archive: Archive, hold: Hold) -> None:
        archive.add_seeds(hold, seeds(0.0))
        expand(archive, hold, 0, [(archive.attempts(hold.run_id, -1)[0].id, [1.0])])
        archive.commit_step(hold, 0, CheckpointRow(step=0, version=1, path="c", sha256="5a"))
        progress = archive.progress(hold.run_id)
        assert (progress.step, progress.stage, progress.version) == (1, None, 1)

    def test_a_plan_keeps_the_numbers_of_the_choice(self, archive: Archive, hold: Hold) -> None:
        archive.add_seeds(hold, seeds(0.0))
        parent = archive.nodes(hold.run_id).ids[0]  # numpy's numbers are numbers
        chosen = replace(planned(parent), q=np.float64(0.1), prior=0.2, bonus=0.3, puct=0.4)
        (group,) = archive.plan(hold, 0, [chosen])
        assert (group.parent_id, group.shown_id) == (parent, parent)
        assert (group.q, group.prior, group.bonus, group.puct) == (0.1, 0.2, 0.3, 0.4)

    def test_an_update_leaves_what_settling_found(self, archive: Archive, hold: Hold) -> None:
        archive.add_seeds(hold, seeds(0.0))
        expand(archive, hold, 0, [(archive.attempts(hold.run_id, -1)[0].id, [None, None])])
        stats = [GroupStats(group_index=0, beta=2.0)]
        archive.record_update(hold, 0, group_stats=stats, metrics={}, seconds=0.0, staging=None)
        found = archive.query("select beta, constant, valid_fraction from groups")[1]
        assert found == [(2.0, True, 0.0)]

    def test_sequence_numbers_follow_step_group_and_attempt(
        self, archive: Archive, hold: Hold
    ) -> None:
        archive.add_seeds(hold, seeds(0.0, 0.0))
        roots = [row.id for row in archive.attempts(hold.run_id, -1)]
        archive.plan(hold, 0, [planned(roots[1], 1, size=2), planned(roots[0], 0, size=3)])
        rows = archive.attempts(hold.run_id, -1) + archive.attempts(hold.run_id, 0)
        assert [row.seq for row in rows] == list(range(7))
        assert [row.group_index for row in rows[2:]] == [0, 0, 0, 1, 1]

    def test_training_gets_back_what_was_sampled(self, archive: Archive, hold: Hold) -> None:
        ids = planned_step(archive, hold, size=2)
        given_one = response(0)
        archive.store_responses(hold, 0, 0, [given_one, response(1)])
        archive.store_verdicts(hold, 0, [verdict(ids[0], -2.5)])
        (group,) = archive.training_batch(hold.run_id, 0)
        (back,) = group.attempts
        assert (group.prompt_ids, back.reward) == ((1, 2, 3), 2.5)
        assert np.array_equal(back.token_ids, given_one.token_ids)
        assert back.logprobs.tobytes() == given_one.logprobs.tobytes()
        assert np.array_equal(back.mask, given_one.mask)

    @pytest.mark.parametrize("shape", [(5,), (4, 3)])
    def test_constructions_come_back_bit_for_bit(
        self, archive: Archive, hold: Hold, shape: tuple[int, ...]
    ) -> None:
        array = np.random.default_rng(0).standard_normal(shape)
        archive.add_seeds(hold, [SeedRow(slot=0, value=0.0, construction=array)])
        back = archive.construction(archive.attempts(hold.run_id, -1)[0].id)
        assert back is not None
        assert (back.shape, back.tobytes()) == (array.shape, array.tobytes())

    def test_runs_answer_to_uuid_prefix_number_and_last(self, archive: Archive) -> None:
        first, second = new_run(archive), new_run(archive)
        assert archive.run(str(first.uuid)).id == archive.run(str(first.id)).id == first.id
        assert archive.run(str(second.uuid)[:13]).id == archive.run("last").id == second.id

    @pytest.mark.parametrize("wanted", ["", "zz", "999999"])
    def test_an_unknown_run_is_refused_with_the_known_ones(
        self, archive: Archive, run: RunRow, wanted: str
    ) -> None:
        with pytest.raises(RunNotFound) as caught:
            archive.run(wanted)
        assert str(run.uuid)[:8] in str(caught.value)
        assert isinstance(caught.value, LookupError)

    def test_a_finished_run_is_no_longer_unfinished(self, archive: Archive, hold: Hold) -> None:
        assert [row.id for row in archive.unfinished()] == [hold.run_id]
        archive.set_flow_run(hold, "a-flow-run")
        archive.finish(hold, "finished", "budget spent")
        hold.release()
        row = archive.run(hold.run_id)
        assert archive.unfinished() == []
        assert (row.state, row.message, row.flow_run_id) == (
            "finished",
            "budget spent",
            "a-flow-run",
        )

    def test_a_crashed_run_is_shown_as_crashed(self, archive: Archive, hold: Hold) -> None:
        with archive._read() as connection:
            connection.exec_driver_sql(
                "update archive.runs set lease_expires_at = now() - interval '1 second'"
            )
        assert archive.query("select state, owner from runs")[1] == [("crashed", None)]

    def test_lost_files_of_a_version_can_be_named_again(
        self, archive: Archive, hold: Hold
    ) -> None:
        archive.add_seeds(hold, seeds(0.0))
        expand(archive, hold, 0, [(archive.attempts(hold.run_id, -1)[0].id, [1.0])])
        lost = CheckpointRow(step=0, version=1, path="c", sha256="5a")
        archive.commit_step(hold, 0, lost)
        archive.mark_pruned(hold, {0: "old"})
        assert [row.state for row in archive.checkpoints(hold.run_id)] == ["pruned"]
        archive.restore_checkpoint(hold, replace(lost, sha256="5b"))
        assert archive.checkpoints(hold.run_id) == [replace(lost, sha256="5b")]
        with pytest.raises(UsageError, match="never committed"):
            archive.restore_checkpoint(hold, replace(lost, version=2))
