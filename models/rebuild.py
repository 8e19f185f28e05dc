"""Counters and eligibility from scratch: what settling step by step must have arrived at.

Nothing is read from the counters: visits, best children, eligibility and totals follow from the
ordered attempts, their verdicts and the run's configuration.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from sqlalchemy import Connection

from eurekaflow.models import database
from eurekaflow.models.errors import RunOwned
from eurekaflow.models.retention import Candidate, next_nodes
from eurekaflow.models.updates import Updates

_CONFIG = "select config from archive.runs where id = :run for update"
_ORDERED = """
    select a.id, a.seq, a.step, a.group_index, a.attempt_index, a.parent_id, a.path, a.outcome,
        a.value, a.archivable, a.dedupe_key, d.first_step, s.settings
    from archive.attempts a
    left join archive.steps s on s.run_id = a.run_id and s.step = a.step
    left join (select shown_id, min(step) as first_step from archive.groups
               where run_id = :run group by shown_id) d on d.shown_id = a.id and a.step = -1
    where a.run_id = :run and a.outcome is not null
        and (a.step = -1 or s.stage in ('archived', 'updated', 'committed'))
    order by a.step, a.seq"""
_STORED = """
    select id, eligible, visits_expansion, visits_rollout, best_child from archive.attempts
    where run_id = :run order by id"""
_TOTALS = "select total_expansions, total_rollouts from archive.runs where id = :run"
_SET_TOTALS = """
    update archive.runs set total_expansions = :total_expansions, total_rollouts = :total_rollouts
    where id = :run"""
_SET = """
    update archive.attempts set eligible = :eligible, visits_expansion = :visits_expansion,
        visits_rollout = :visits_rollout, best_child = :best_child
    where id = :id"""
_FIELDS = ("eligible", "visits_expansion", "visits_rollout", "best_child")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A number in the archive that replaying the attempts does not give."""

    attempt_id: int | None  # None: a total of the run
    field: str
    stored: Any
    replayed: Any


@dataclass
class _Replay:
    """The tree's numbers while its attempts are walked in order."""

    expansions: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    rollouts: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    best_child: dict[int, float] = field(default_factory=dict)
    nodes: list[Candidate] = field(default_factory=list)
    totals: dict[str, int] = field(
        default_factory=lambda: {"total_expansions": 0, "total_rollouts": 0}
    )

    def numbers(self, attempt_id: int, eligible: set[int]) -> tuple[Any, ...]:
        """The attempt's replayed values, in the order of `_FIELDS`."""
        return (
            attempt_id in eligible,
            self.expansions.get(attempt_id, 0),
            self.rollouts.get(attempt_id, 0),
            self.best_child.get(attempt_id),
        )


class Rebuild(Updates):
    """Replaying a run's tree from its attempts."""

    @database.repeated
    def check_rebuild(self, run_id: int) -> list[Difference]:
        """Where the stored counters differ from a replay; empty for a sound archive."""
        with self._read() as connection:
            return list(_differences(connection, run_id, _replay(connection, run_id)))

    def rebuild(self, run_id: int) -> list[Difference]:
        """Write the replayed counters; what was different. Raises RunOwned for a held run."""
        with self._read() as connection:
            _refuse_owned(connection, run_id)
            return rewrite(connection, run_id)


def rewrite(connection: Connection, run_id: int) -> list[Difference]:
    """Write a run's replayed counters within a transaction; what was different."""
    replay = _replay(connection, run_id)
    found = list(_differences(connection, run_id, replay))
    eligible = {node.id for node in replay.nodes}
    changed = sorted({d.attempt_id for d in found if d.attempt_id is not None})
    values = [
        {"id": i, **dict(zip(_FIELDS, replay.numbers(i, eligible), strict=True))} for i in changed
    ]
    database.many(connection, _SET, values)
    database.run(connection, _SET_TOTALS, run=run_id, **replay.totals)
    return found


def _refuse_owned(connection: Connection, run_id: int) -> None:
    sql = "select lease_owner, lease_expires_at > now() as owned from archive.runs where id = :run"
    row = database.one(connection, sql, run=run_id)
    if row.owned:
        raise RunOwned(
            f"run {run_id} is owned by {row.lease_owner}", "rebuild it after that process ended"
        )


def _replay(connection: Connection, run_id: int) -> _Replay:
    config = database.one(connection, _CONFIG, run=run_id).config
    replay = _Replay()
    seeds: list[Any] = []
    ordered = database.rows(connection, _ORDERED, run=run_id)
    for step, members in groupby(ordered, key=lambda row: int(row.step)):
        if step < 0:
            seeds = list(members)
            replay.nodes = [_node(row, row) for row in seeds if row.attempt_index == 0]
            continue
        attempts = list(members)
        _count(replay, attempts)
        before = [_as_drawn(node, seeds, step) for node in replay.nodes]
        new = [_node(r, r) for r in attempts if r.outcome == "valid" and r.archivable]
        replay.nodes = next_nodes(before, new, **_settings({**config, **attempts[0].settings}))
    return replay


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "topk_children": config.get("topk_children", 2),
        "archive_cap": config.get("archive_cap", 1000),
        "retention_scope": config.get("retention_scope", "parent"),
    }


def _count(replay: _Replay, attempts: Sequence[Any]) -> None:
    """Count one step's verdicts, group by group."""
    for _, members in groupby(attempts, key=lambda row: int(row.group_index)):
        group = list(members)
        replay.totals["total_expansions"] += 1
        replay.totals["total_rollouts"] += len(group)
        for ancestor in group[0].path:
            replay.expansions[ancestor] += 1
            replay.rollouts[ancestor] += len(group)
        for row in group:
            if row.outcome == "valid":
                best = replay.best_child.get(row.parent_id, row.value)
                replay.best_child[row.parent_id] = max(best, row.value)


def _node(row: Any, seen: Any) -> Candidate:
    return Candidate(
        id=row.id,
        seq=row.seq,
        step=row.step,
        group_index=row.group_index,
        parent_id=row.parent_id,
        value=seen.value,
        dedupe_key=seen.dedupe_key,
    )


def _as_drawn(node: Candidate, seeds: Sequence[Any], step: int) -> Candidate:
    """A seed as its slot stood at `step`: draws first shown later did not exist yet."""
    if not node.is_seed:
        return node
    draws = [
        row
        for row in seeds
        if row.group_index == node.group_index
        and (row.attempt_index == 0 or row.first_step is None or row.first_step <= step)
    ]
    first = next(row for row in draws if row.id == node.id)
    return _node(first, max(draws, key=lambda row: int(row.attempt_index)))


def _differences(connection: Connection, run_id: int, replay: _Replay) -> Iterator[Difference]:
    totals = database.one(connection, _TOTALS, run=run_id)
    for name, replayed in replay.totals.items():
        if getattr(totals, name) != replayed:
            yield Difference(
                attempt_id=None, field=name, stored=getattr(totals, name), replayed=replayed
            )
    eligible = {node.id for node in replay.nodes}
    for row in database.rows(connection, _STORED, run=run_id):
        for name, new in zip(_FIELDS, replay.numbers(row.id, eligible), strict=True):
            old = getattr(row, name)
            if old != new:
                yield Difference(attempt_id=row.id, field=name, stored=old, replayed=new)
