"""The archive's promises: repeatable writes, one owner, a fence, nothing lost or changed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eurekaflow.models import arrays
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
from eurekaflow.models.errors import ArchiveUnavailable, FencedOut, RunOwned, UsageError
from tests.archives import expand, new_run, planned, response, sample, seeds, settle, verdict

pytest_plugins = ("tests.archive_fixtures",)

STATE = """
    select coalesce(json_agg(t order by t::text), '[]')::text from (
        select to_jsonb(a) - 'eligible' as t from archive.attempts a
        union all select to_jsonb(g) from archive.groups g
        union all select to_jsonb(s) from archive.steps s
        union all select to_jsonb(t) from archive.tokens t
        union all select to_jsonb(c) from archive.checkpoints c
        union all select to_jsonb(l) from archive.ledger l
        union all select to_jsonb(b) from archive.bodies b) t"""


def state(archive: Archive) -> str:
    """Everything stored, as text."""
    return str(archive.query(STATE, as_reader=False)[1][0][0])


def planned_step(archive: Archive, hold: Hold, *, size: int = 4) -> list[int]:
    """Plan step 0 from one seed; ids of its attempts."""
    archive.add_seeds(hold, seeds(0.0))
    archive.plan(hold, 0, [planned(archive.attempts(hold.run_id, -1)[0].id, size=size)])
    return [row.id for row in archive.attempts(hold.run_id, 0)]


@given(
    hnp.arrays(
        st.sampled_from([np.dtype("f8"), np.dtype("f4"), np.dtype("i4"), np.dtype("?")]),
        hnp.array_shapes(max_dims=2, max_side=5),
    )
)
def test_arrays_survive_the_wire_format(array: Any) -> None:
    back = arrays.from_wire(arrays.to_wire(array))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_minus_zero_is_the_same_answer_but_another_body() -> None:
    plus, minus = np.array([0.0, 1.0]), np.array([-0.0, 1.0])
    assert arrays.dedupe_key(plus, "") == arrays.dedupe_key(minus, "")
    assert arrays.array_hash(plus) != arrays.array_hash(minus)


def test_a_row_and_a_column_are_different_answers() -> None:
    flat = np.arange(4.0)
    assert arrays.dedupe_key(flat, "") != arrays.dedupe_key(flat.reshape(2, 2), "")


def test_without_construction_the_program_is_the_answer() -> None:
    assert arrays.dedupe_key(None, "p") == arrays.dedupe_key(np.empty(0), "p")
    assert arrays.dedupe_key(None, "") is None


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
        archive.mark_pruned(hold, [0])

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


OWNER = """
import sys, time
from eurekaflow.models.archive import Archive
hold = Archive(sys.argv[1]).hold(int(sys.argv[2]), owner="the other")
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.services
class TestOwning:
    """One owner a run; the newest epoch writes."""

    def test_a_second_owner_is_refused_with_the_first_ones_name(
        self, archive: Archive, hold: Hold
    ) -> None:
        with pytest.raises(RunOwned, match=r"the test \(process \d+ on .+\) since \d{4}-"):
            archive.hold(hold.run_id, owner="another")

    def test_a_released_run_can_be_owned_again(self, archive: Archive, hold: Hold) -> None:
        hold.release("paused")
        assert archive.run(hold.run_id).state == "paused"
        with archive.hold(hold.run_id, owner="another") as second:
            assert second.epoch == hold.epoch + 1

    def test_an_old_owner_cannot_write(self, archive: Archive, hold: Hold) -> None:
        planned_step(archive, hold, size=1)
        before = state(archive)
        hold.release()
        with archive.hold(hold.run_id, owner="another"):
            for write in self._writes(archive, hold):
                with pytest.raises(FencedOut, match="another"):
                    write()
        assert state(archive) == before

    def _writes(self, archive: Archive, hold: Hold) -> list[Any]:
        row = CheckpointRow(step=0, version=1, path="c", sha256="5a")
        update = {"group_stats": [], "metrics": {}, "seconds": 1.0, "staging": None}
        return [
            lambda: archive.add_seeds(hold, seeds(0.0, 1.0)),
            lambda: archive.plan(hold, 1, []),
            lambda: archive.store_responses(hold, 0, 0, [response(0)]),
            lambda: archive.store_verdicts(hold, 0, []),
            lambda: archive.abandon(hold, 0, [1], "gone"),
            lambda: archive.stage_done(hold, 0, "sample", 1.0),
            lambda: settle(archive, hold, 0),
            lambda: archive.record_update(hold, 0, **update),
            lambda: archive.commit_step(hold, 0, row),
            lambda: archive.mark_pruned(hold, [0]),
            lambda: archive.add_ledger(hold, 0, "plan"),
            lambda: archive.finish(hold, "finished"),
        ]

    def test_a_lost_hold_neither_renews_nor_releases_the_new_one(
        self, archive: Archive, hold: Hold
    ) -> None:
        with archive._read() as connection:
            connection.exec_driver_sql("update archive.runs set epoch = epoch + 1")
        with pytest.raises(FencedOut):
            hold.renew()
        hold.release("failed")
        assert archive.run(hold.run_id).state == "running"

    def test_a_killed_owner_is_taken_over_at_once(self, archive: Archive, run: RunRow) -> None:
        command = [sys.executable, "-c", OWNER, archive.url, str(run.id)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "held\n"
            with pytest.raises(RunOwned, match="the other"):
                archive.hold(run.id, owner="the test")
            owner.kill()
            owner.wait()
            self._take_within(archive, run, seconds=2.0).release()

    def _take_within(self, archive: Archive, run: RunRow, *, seconds: float) -> Hold:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return archive.hold(run.id, owner="the test")
            except RunOwned:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def test_an_expired_lease_is_taken_over_from_a_frozen_owner(
        self, archive: Archive, hold: Hold
    ) -> None:
        with archive._read() as connection:
            connection.exec_driver_sql(
                "update archive.runs set lease_expires_at = now() - interval '1 second'"
            )
        with archive.hold(hold.run_id, owner="another"), pytest.raises(FencedOut):
            archive.add_seeds(hold, seeds(0.0))

    def test_the_lease_is_renewed_in_the_background(self, archive: Archive, run: RunRow) -> None:
        with archive.hold(run.id, owner="the test", lease_s=0.4):
            time.sleep(1.0)
            assert archive.run(run.id).owner == "the test"

    def test_a_run_is_released_through_a_broken_connection(
        self, archive: Archive, hold: Hold
    ) -> None:
        with archive._read() as connection:
            connection.exec_driver_sql(
                "select pg_terminate_backend(pid, 2000) from pg_locks where locktype = 'advisory'"
            )
        hold.release("paused")
        assert archive.run(hold.run_id).state == "paused"

    def test_a_hold_survives_a_broken_connection(self, archive: Archive, hold: Hold) -> None:
        with archive._read() as connection:
            connection.exec_driver_sql(
                "select pg_terminate_backend(pid, 2000) from pg_locks where locktype = 'advisory'"
            )
        hold.renew()
        with pytest.raises(RunOwned):
            archive.hold(hold.run_id, owner="another")


@pytest.mark.services
class TestFailing:
    """Trouble with the database is told apart from everything else."""

    def test_an_absent_server_is_unavailable(self) -> None:
        with pytest.raises(ArchiveUnavailable, match="did not answer"):
            Archive("postgresql://postgres@/x?host=/nonexistent").runs()

    def test_a_vanished_database_is_unavailable_and_names_the_reason(
        self, archive: Archive, hold: Hold
    ) -> None:
        name = archive.url.split("/")[3].split("?")[0]
        with psycopg.connect(archive.url.replace(name, "postgres"), autocommit=True) as other:
            other.execute(f"alter database {name} allow_connections false")
            other.execute(
                "select pg_terminate_backend(pid, 2000) from pg_stat_activity where datname = %s",
                (name,),
            )
            try:
                with pytest.raises(ArchiveUnavailable, match="not currently accepting"):
                    archive.add_seeds(hold, seeds(0.0))
            finally:
                other.execute(f"alter database {name} allow_connections true")
        assert archive.add_seeds(hold, seeds(0.0)) == 1

    def test_threads_may_share_an_archive(self, archive: Archive, hold: Hold) -> None:
        planned_step(archive, hold, size=32)
        counts: list[StoreCount] = []

        def store(slot: int) -> None:
            counts.append(archive.store_responses(hold, 0, 0, [response(slot)]))

        threads = [threading.Thread(target=store, args=(slot,)) for slot in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(count.inserted for count in counts) == 32
        assert archive.missing(hold.run_id, 0) == {}
