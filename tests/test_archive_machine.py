"""The archive under any order of work, crashes, takeovers, retention and rebuilding."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from eurekaflow.models import faultpoints
from eurekaflow.models.archive import Archive, CheckpointRow, Hold
from eurekaflow.models.errors import FencedOut, RunOwned
from tests.archives import new_run, planned, response, seeds, settle, verdict

pytest_plugins = ("tests.archive_fixtures",)

SIZE = 3  # attempts of a group
VALUES = st.one_of(st.none(), st.integers(-3, 3).map(float))
SOME = st.lists(st.integers(0, 2 * SIZE - 1), max_size=2 * SIZE)
RETENTION = st.fixed_dictionaries(
    {
        "topk_children": st.integers(0, 2),
        "archive_cap": st.integers(2, 6),
        "retention_scope": st.sampled_from(["parent", "expansion"]),
    }
)
STORED = """
    select a.id, a.seq, a.parent_id, a.path, a.response_hash, a.sampled_at, md5(t::text),
        a.outcome, a.value, a.reward, a.message, a.program_hash, a.verified_at
    from archive.attempts a left join archive.tokens t on t.attempt_id = a.id
    where a.run_id = %s"""


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Expected:
    """What a reader of the archive must find."""

    step: int = -1  # the newest planned one
    places: set[tuple[int, int, int]] = field(default_factory=set)
    verdicts: dict[int, float | None] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    committed: int = 0


class ArchiveMachine(RuleBasedStateMachine):
    """One run at a time; every rule may be followed by any other."""

    archive: Archive  # set by the test

    @initialize(retention=RETENTION)
    def begin(self, retention: dict[str, Any]) -> None:
        self.retention = retention
        self.run = new_run(self.archive, **retention).id
        self.expected, self.old = Expected(), list[Hold]()
        self.hold = self.archive.hold(self.run, owner="the first")
        self.archive.add_seeds(self.hold, seeds(0.0, 1.0))
        self.rows: dict[int, tuple[Any, ...]] = {}

    def stage(self) -> str | None:
        row = self.archive.step(self.run, self.expected.step)
        return None if row is None else row.stage

    @precondition(lambda self: self.stage() in (None, "committed"))
    @rule(picks=st.lists(st.integers(0, 9), min_size=2, max_size=2))
    def plan(self, picks: list[int]) -> None:
        self.expected.step += 1
        nodes = self.archive.nodes(self.run).ids
        groups = [planned(int(nodes[p % len(nodes)]), i, size=SIZE) for i, p in enumerate(picks)]
        for _ in range(2):
            self.archive.plan(self.hold, self.expected.step, groups)
        step = self.expected.step
        self.expected.places |= {(step, g, i) for g in range(2) for i in range(SIZE)}

    @precondition(lambda self: self.stage() == "planned")
    @rule(slots=SOME)
    def insert(self, slots: list[int]) -> None:
        for group in range(2):
            wanted = sorted({s % SIZE for s in slots if s // SIZE == group})
            answers = [response(s) for s in wanted]
            count = self.archive.store_responses(self.hold, self.expected.step, group, answers)
            assert count.different == 0

    @precondition(lambda self: self.stage() == "planned")
    @rule(picks=SOME, values=st.lists(VALUES, min_size=2 * SIZE, max_size=2 * SIZE))
    def verify(self, picks: list[int], values: list[float | None]) -> None:
        rows = self.attempts()
        chosen = [(rows[p], values[p]) for p in sorted(set(picks))]
        given = [verdict(row.id, value) for row, value in chosen]
        self.archive.store_verdicts(self.hold, self.expected.step, given)
        for row, value in chosen:
            if row.state == "sampled":
                self.expected.verdicts[row.id] = value

    @precondition(lambda self: self.stage() == "planned")
    @rule(pick=st.integers(0, 2 * SIZE - 1))
    def give_up(self, pick: int) -> None:
        row = self.attempts()[pick]
        count = self.archive.abandon(self.hold, self.expected.step, [row.id], "zygote lost")
        assert count == (row.state in ("planned", "sampled"))
        if count:
            self.expected.lost.add(row.id)

    @precondition(lambda self: self.stage() == "planned" and not self.open())
    @rule()
    def retain(self) -> None:
        for _ in range(2):
            settle(self.archive, self.hold, self.expected.step, **self.retention)

    @precondition(lambda self: self.stage() == "archived")
    @rule()
    def commit(self) -> None:
        step = self.expected.step
        self.archive.record_update(
            self.hold, step, group_stats=[], metrics={}, seconds=1.0, staging=None
        )
        row = CheckpointRow(step=step, version=step + 1, path=f"c/{step}", sha256="5a")
        for _ in range(2):
            self.archive.commit_step(self.hold, step, row)
        self.expected.committed += 1

    @precondition(lambda self: self.expected.committed > 0)
    @rule()
    def prune(self) -> None:
        self.archive.mark_pruned(self.hold, {self.expected.step - 1: "old"})

    @rule()
    def crash(self) -> None:
        """The owner's connection goes; nothing is given back."""
        self.hold._stop.set()
        self.hold._drop()
        self.old.append(self.hold)
        for _ in range(200):
            try:
                self.hold = self.archive.hold(self.run, owner="the next")
                return
            except RunOwned:  # the server has not yet seen that the socket is gone
                time.sleep(0.01)
        raise AssertionError("a dead owner was not taken over")

    @precondition(lambda self: self.stage() == "planned")
    @rule(slots=SOME, when=st.sampled_from(["before", "after"]))
    def crash_inside_a_transaction(self, slots: list[int], when: str) -> None:
        def die(point: str) -> None:
            if point == f"store_responses.{when}_commit":
                raise Killed

        faultpoints.arm(die)
        try:
            with pytest.raises(Killed):
                self.insert(slots or [0])
        finally:
            faultpoints.arm(None)
        self.crash()

    @rule()
    def resume_while_owned(self) -> None:
        with pytest.raises(RunOwned):
            self.archive.hold(self.run, owner="another")

    @precondition(lambda self: self.old)
    @rule(slots=SOME)
    def write_by_an_old_owner(self, slots: list[int]) -> None:
        with pytest.raises(FencedOut):
            self.archive.store_responses(self.old[-1], 0, 0, [response(s % SIZE) for s in slots])

    @rule()
    def rebuild(self) -> None:
        self.hold.release()
        assert self.archive.rebuild(self.run) == []
        self.hold = self.archive.hold(self.run, owner="after rebuilding")

    @invariant()
    def nothing_stored_is_lost_or_changed(self) -> None:
        found = self.archive.query(STORED, params=(self.run,), as_reader=False)[1]
        now = {row[0]: row for row in found}
        for old in self.rows.values():
            assert all(o is None or o == "" or o == n
                       for o, n in zip(old, now[old[0]], strict=True))  # fmt: skip
        self.rows = now

    @invariant()
    def every_place_is_there_once(self) -> None:
        rows = [row for s in range(self.expected.step + 1) for row in self.attempts(s)]
        places = [(row.step, row.group_index, row.attempt_index) for row in rows]
        assert sorted(places) == sorted(self.expected.places)
        assert [row.seq for row in rows] == sorted({row.seq for row in rows})

    @invariant()
    def verdicts_are_the_ones_given(self) -> None:
        rows = [row for s in range(self.expected.step + 1) for row in self.attempts(s)]
        found = {row.id: row.value for row in rows if row.outcome is not None}
        assert found == self.expected.verdicts
        assert {row.id for row in rows if row.state == "lost"} == self.expected.lost

    @invariant()
    def counters_equal_the_replayed_ones(self) -> None:
        assert self.archive.check_rebuild(self.run) == []

    def attempts(self, step: int | None = None) -> list[Any]:
        return self.archive.attempts(self.run, self.expected.step if step is None else step)

    def open(self) -> list[Any]:
        return [row for row in self.attempts() if row.state in ("planned", "sampled")]

    def teardown(self) -> None:
        if hasattr(self, "hold"):
            self.hold.release()


@pytest.mark.services
@pytest.mark.slow
def test_no_order_of_events_loses_or_changes_what_was_stored(archive: Archive) -> None:
    machine = type("Machine", (ArchiveMachine,), {"archive": archive})
    quiet = list(HealthCheck)
    run_machine(
        machine,
        settings=settings(
            max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=quiet
        ),
    )
