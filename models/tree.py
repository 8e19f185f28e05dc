"""The PUCT tree in the archive: reading its nodes, settling a step.

Counters sit on the attempts: `visits_expansion` and `visits_rollout` count finished groups and
attempts with a verdict at or below an attempt, in both units at once; `best_child` is the largest
value of a valid direct child. Failed attempts count and leave `best_child` alone; valid ones that
are not inserted count in everything. `path` holds all ancestors, eligible or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row

from eurekaflow.models import database
from eurekaflow.models.errors import UsageError
from eurekaflow.models.registry import jsonb
from eurekaflow.models.retention import Candidate, next_nodes
from eurekaflow.models.rows import NodeTable, RetentionScope, VisitUnit
from eurekaflow.models.states import Stage, reached
from eurekaflow.models.steps import Steps

_RUN = """
    select total_expansions, total_rollouts, coalesce(config->>'visit_unit', 'expansion') as unit
    from archive.runs where id = :run"""
_NODES = """
    select id, seq, value, step = -1, group_index, path, best_child, visits_expansion,
        visits_rollout
    from archive.attempts where run_id = %s and eligible order by seq"""
LAST_DRAWS = """
    select distinct on (group_index) group_index, id, value, dedupe_key from archive.attempts
    where run_id = :run and step = -1 order by group_index, attempt_index desc"""
_STEP = "select stage from archive.steps where run_id = :run and step = :step"
_OPEN = """
    select count(*) as n from archive.attempts
    where run_id = :run and step = :step and state in ('planned', 'sampled')"""
_VISITS = """
    update archive.attempts a set visits_expansion = visits_expansion + v.expansions,
        visits_rollout = visits_rollout + v.rollouts
    from (
        select node, count(*) as expansions, sum(rollouts)::bigint as rollouts
        from (
            select group_index, path, count(*) as rollouts from archive.attempts
            where run_id = :run and step = :step and outcome is not null
            group by group_index, path
        ) finished cross join lateral unnest(path) node
        group by node
    ) v
    where a.id = v.node"""
_TOTALS = """
    update archive.runs r set total_expansions = total_expansions + t.expansions,
        total_rollouts = total_rollouts + t.rollouts
    from (
        select count(distinct group_index) as expansions, count(*) as rollouts
        from archive.attempts where run_id = :run and step = :step and outcome is not null
    ) t where r.id = :run returning r.total_expansions, r.total_rollouts"""
_BEST_CHILD = """
    update archive.attempts p set best_child = greatest(p.best_child, c.value)
    from (
        select parent_id, max(value) as value from archive.attempts
        where run_id = :run and step = :step and outcome = 'valid' group by parent_id
    ) c where p.id = c.parent_id"""
_ELIGIBLE = """
    select id, seq, step, group_index, parent_id, value, dedupe_key from archive.attempts
    where run_id = :run and eligible order by seq"""
_CANDIDATES = """
    select id, seq, step, group_index, parent_id, value, dedupe_key from archive.attempts
    where run_id = :run and step = :step and outcome = 'valid' and archivable order by seq"""
_SET_ELIGIBLE = "update archive.attempts set eligible = :eligible where id = any(:ids)"
_SETTLED = """
    update archive.attempts set state = 'settled'
    where run_id = :run and step = :step and state = 'verified'"""
_GROUP_SUMMARY = """
    update archive.groups g set valid_fraction = s.valid, reward_min = s.low,
        reward_mean = s.mean, reward_max = s.high, constant = s.low = s.high
    from (
        select group_index, avg((outcome = 'valid')::int)::float8 as valid, min(reward) as low,
            avg(reward) as mean, max(reward) as high
        from archive.attempts where run_id = :run and step = :step and outcome is not null
        group by group_index
    ) s
    where g.run_id = :run and g.step = :step and g.group_index = s.group_index"""
_STEP_SUMMARY = """
    update archive.steps set stage = 'archived', archived_at = now(), metrics = metrics || :metrics
    where run_id = :run and step = :step"""


class Tree(Steps):
    """The archive as a search tree."""

    @database.repeated
    def nodes(self, run_id: int) -> NodeTable:
        """The eligible nodes in archive order, counted in the run's visit unit."""
        with self._read() as connection:
            run = database.one(connection, _RUN, run=run_id)
            found = database.binary_rows(connection, _NODES, (run_id,))
            draws = {
                row.group_index: row for row in database.rows(connection, LAST_DRAWS, run=run_id)
            }
        return _node_table(run, found, draws)

    @database.repeated
    def settle(
        self,
        hold: database.Fence,
        step: int,
        *,
        topk_children: int,
        archive_cap: int,
        retention_scope: RetentionScope,
        visit_unit: VisitUnit,
    ) -> None:
        """Count a step's verdicts and choose the eligible nodes, once, in one transaction.

        `visit_unit` decides how the step's summary counts T; both units are kept. Raises
        UsageError while an attempt of the step has neither a verdict nor been abandoned.
        """
        key = {"run": hold.run_id, "step": step}
        with self._write(hold, "settle") as connection:
            if _is_settled(connection, **key):
                return
            database.run(connection, _VISITS, **key)
            totals = database.one(connection, _TOTALS, **key)
            database.run(connection, _BEST_CHILD, **key)
            nodes = _retain(
                connection,
                **key,
                topk_children=topk_children,
                archive_cap=archive_cap,
                retention_scope=retention_scope,
            )
            database.run(connection, _SETTLED, **key)
            database.run(connection, _GROUP_SUMMARY, **key)
            expansion = visit_unit == "expansion"
            summary = _summary(
                nodes, totals.total_expansions if expansion else totals.total_rollouts
            )
            database.run(connection, _STEP_SUMMARY, metrics=jsonb(summary), **key)


def _is_settled(connection: Connection, *, run: int, step: int) -> bool:
    row = database.first(connection, _STEP, run=run, step=step)
    if row is None:
        raise UsageError(f"step {step} of run {run} is not planned")
    if reached(row.stage, Stage.ARCHIVED):
        return True
    waiting = database.one(connection, _OPEN, run=run, step=step).n
    if waiting:
        raise UsageError(
            f"{waiting} attempts of step {step} have no verdict", "verify or abandon them first"
        )
    return False


def _retain(
    connection: Connection,
    *,
    run: int,
    step: int,
    topk_children: int,
    archive_cap: int,
    retention_scope: RetentionScope,
) -> list[Candidate]:
    draws = {row.group_index: row for row in database.rows(connection, LAST_DRAWS, run=run)}
    before = [as_candidate(row, draws) for row in database.rows(connection, _ELIGIBLE, run=run)]
    new = database.rows(connection, _CANDIDATES, run=run, step=step)
    after = next_nodes(
        before,
        [as_candidate(row, draws) for row in new],
        topk_children=topk_children,
        archive_cap=archive_cap,
        retention_scope=retention_scope,
    )
    was, now = {node.id for node in before}, {node.id for node in after}
    database.run(connection, _SET_ELIGIBLE, ids=sorted(was - now), eligible=False)
    database.run(connection, _SET_ELIGIBLE, ids=sorted(now - was), eligible=True)
    return after


def as_candidate(row: Any, draws: dict[int, Any]) -> Candidate:
    """A row as retention sees it; a seed is what its slot's last draw is."""
    seen = draws[row.group_index] if row.step < 0 else row
    return Candidate(
        id=row.id,
        seq=row.seq,
        step=row.step,
        group_index=row.group_index,
        parent_id=row.parent_id,
        value=seen.value,
        dedupe_key=seen.dedupe_key,
    )


def _summary(nodes: Sequence[Candidate], total: int) -> dict[str, Any]:
    values = [node.value for node in nodes if not node.is_seed]
    return {
        "eligible_nodes": len(nodes),
        "total_visits": total,
        "node_value_min": min(values, default=None),
        "node_value_max": max(values, default=None),
        "node_value_mean": float(np.mean(values)) if values else None,
    }


def _node_table(
    run: Row[Any], found: Sequence[tuple[Any, ...]], draws: dict[int, Any]
) -> NodeTable:
    columns = list(zip(*found, strict=True)) or [()] * 9
    ids, seqs, values, is_seed, slots, paths, best_child, expansions, rollouts = columns
    place = {number: i for i, number in enumerate(ids)}
    shown_ids, shown_values = list(ids), list(values)
    for i in np.flatnonzero(is_seed):
        draw = draws[slots[i]]
        shown_ids[i], shown_values[i] = draw.id, draw.value
    rollout = run.unit == "rollout"
    return NodeTable(
        ids=np.array(ids, dtype=np.int64),
        shown_ids=np.array(shown_ids, dtype=np.int64),
        seqs=np.array(seqs, dtype=np.int64),
        values=np.array(shown_values, dtype=np.float64),
        visits=np.array(rollouts if rollout else expansions, dtype=np.float64),
        best_child=np.array(best_child, dtype=np.float64),
        is_seed=np.array(is_seed, dtype=np.bool_),
        parents=np.array([path[-1] if path else -1 for path in paths], dtype=np.int64),
        ancestors=tuple(tuple(place[a] for a in path if a in place) for path in paths),
        total=run.total_rollouts if rollout else run.total_expansions,
    )
