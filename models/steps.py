"""Writes of the stages plan, sample and verify; each is one fenced, repeatable transaction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import Connection

from eurekaflow.models import arrays, database
from eurekaflow.models.bodies import Contents
from eurekaflow.models.errors import UsageError
from eurekaflow.models.policy import Response
from eurekaflow.models.reads import Reads
from eurekaflow.models.registry import jsonb
from eurekaflow.models.rows import GroupRow, PlannedGroup, SeedRow, StoreCount, VerdictRow
from eurekaflow.models.states import STAGE_OF, STAGES
from eurekaflow.models.text import escape

_SEQUENCE = """
    update archive.runs set next_seq = next_seq + :count where id = :run
    returning next_seq - :count as first"""
_ADD_SEED = """
    insert into archive.attempts (run_id, step, group_index, attempt_index, seq, state, outcome,
        value, archivable, eligible, dedupe_key, program_hash, construction_hash, verified_at)
    values (:run, -1, :slot, :draw, :seq, 'verified', 'seed', :value, true, :eligible, :dedupe,
        :program, :construction, now())
    on conflict (run_id, step, group_index, attempt_index) do nothing"""
_ADD_STEP = """
    insert into archive.steps (run_id, step, stage, version_sampled)
    select id, :step, 'planned', version from archive.runs where id = :run"""
_ADD_GROUP = """
    insert into archive.groups (run_id, step, group_index, parent_id, shown_id, prompt_hash,
        prompt_ids, opening, group_size, parent_visits, parent_q, parent_prior, parent_bonus,
        parent_puct)
    values (:run, :step, :group, :parent, :shown, :prompt, :ids, :opening, :size, :visits, :q,
        :prior, :bonus, :puct)"""
_RESERVE = """
    insert into archive.attempts (run_id, step, group_index, attempt_index, seq, parent_id, path,
        state)
    select g.run_id, g.step, g.group_index, slot,
        :first + sum(g.group_size) over (order by g.group_index) - g.group_size + slot,
        g.parent_id, p.path || p.id, 'planned'
    from (select *, sum(group_size) over (order by group_index) as upto from archive.groups
          where run_id = :run and step = :step) g
    join archive.attempts p on p.id = g.parent_id
    cross join lateral generate_series(0, g.group_size - 1) slot"""
_RESERVE = """
    insert into archive.attempts (run_id, step, group_index, attempt_index, seq, parent_id, path,
        state)
    select g.run_id, g.step, g.group_index, slot, :first + g.upto - g.group_size + slot,
        g.parent_id, p.path || p.id, 'planned'
    from (select *, sum(group_size) over (order by group_index) as upto from archive.groups
          where run_id = :run and step = :step) g
    join archive.attempts p on p.id = g.parent_id
    cross join lateral generate_series(0, g.group_size - 1) slot"""
_STORED = """
    select a.attempt_index, a.id, a.response_hash, t.ids, t.logprobs, t.mask
    from archive.attempts a left join archive.tokens t on t.attempt_id = a.id
    where a.run_id = %s and a.step = %s and a.group_index = %s and a.attempt_index = any(%s)"""
_TOKENS = """
    insert into archive.tokens (attempt_id, ids, logprobs, mask)
    values (:id, :ids, :logprobs, :mask)"""
_SAMPLED = """
    update archive.attempts set state = 'sampled', response_hash = :response, finish = :finish,
        forced = :forced, response_tokens = :length, sampled_at = now()
    where id = :id and state = 'planned'"""
_VERIFIED = """
    update archive.attempts set state = 'verified', outcome = :outcome, value = :value,
        reward = :reward, message = :message, archivable = :archivable, dedupe_key = :dedupe,
        program_hash = :program, construction_hash = :construction, stdout_hash = :stdout,
        metrics = :metrics, queue_s = :queue_s, run_s = :run_s, cpu_s = :cpu_s, worker = :worker,
        verified_at = now()
    where id = :id and run_id = :run and step = :step and state = 'sampled'"""
_OPEN = """
    select id from archive.attempts
    where run_id = :run and step = :step and id = any(:ids) and state = 'sampled'"""
_LOST = """
    update archive.attempts set state = 'lost', message = :message
    where run_id = :run and step = :step and id = any(:ids) and state in ('planned', 'sampled')"""
_STAGE_DONE = """
    update archive.steps set seconds = jsonb_build_object(cast(:name as text),
            cast(:seconds as float8)) || seconds,
        stage = case when array_position(cast(:order as text[]), stage)
            < array_position(cast(:order as text[]), cast(:stage as text))
            and :name in ('sample', 'verify') then :stage else stage end
    where run_id = :run and step = :step"""


class Steps(Reads):
    """The first half of a step."""

    def add_seeds(self, hold: database.Fence, seeds: Sequence[SeedRow]) -> int:
        """Add starting points or later draws of their slots; how many were new.

        Every value must be finite. Draw 0 of a slot is the node; later draws only change what it
        shows and its value.
        """
        with self._write(hold) as connection:
            return _insert_seeds(connection, hold.run_id, seeds)

    def plan(
        self, hold: database.Fence, step: int, groups: Sequence[PlannedGroup]
    ) -> list[GroupRow]:
        """Plan a step: its groups and their attempts, numbered in (group, attempt) order.

        An existing plan is kept and returned. Raises UsageError when the step before is not
        archived or a group has no parent.
        """
        with self._write(hold) as connection:
            if not _has_step(connection, hold.run_id, step):
                _check_order(connection, hold.run_id, step, groups)
                _insert_plan(connection, hold.run_id, step, groups)
        return self.groups(hold.run_id, step)

    def store_responses(
        self, hold: database.Fence, step: int, group_index: int, responses: Sequence[Response]
    ) -> StoreCount:
        """Store sampled responses with their tokens. Stored rows are kept and compared."""
        with self._write(hold) as connection:
            slots = [response.attempt_index for response in responses]
            key = (hold.run_id, step, group_index, slots)
            stored = {row[0]: row for row in database.binary_rows(connection, _STORED, key)}
            unknown = sorted(set(slots) - stored.keys())
            if unknown:
                raise UsageError(f"step {step} group {group_index} has no slots {unknown}")
            new = [r for r in responses if stored[r.attempt_index][2] is None]
            new = [r for r in new if stored[r.attempt_index][3] is None]
            _insert_responses(connection, {r.attempt_index: stored[r.attempt_index] for r in new}, new)
        fresh = {response.attempt_index for response in new}
        count = StoreCount(inserted=len(new))
        for response in responses:
            if response.attempt_index not in fresh:
                count = _compared(count, response, stored[response.attempt_index])
        return count

    def store_verdicts(
        self, hold: database.Fence, step: int, verdicts: Sequence[VerdictRow]
    ) -> int:
        """Store verdicts of sampled attempts; how many were new. Old verdicts never change."""
        for verdict in verdicts:
            _check_verdict(verdict)
        with self._write(hold) as connection:
            key = {"run": hold.run_id, "step": step}
            ids = [verdict.attempt_id for verdict in verdicts]
            open_ids = {row.id for row in database.rows(connection, _OPEN, ids=ids, **key)}
            new = {v.attempt_id: v for v in reversed(verdicts) if v.attempt_id in open_ids}
            contents = Contents()
            values = [{**key, **_verdict_values(v, contents)} for v in new.values()]
            contents.write(connection)
            database.many(connection, _VERIFIED, values)
        return len(new)

    def abandon(
        self, hold: database.Fence, step: int, attempt_ids: Sequence[int], message: str
    ) -> int:
        """Mark attempts that infrastructure gave no verdict as lost; how many were."""
        with self._write(hold) as connection:
            values = {"ids": list(attempt_ids), "message": escape(message)}
            return database.run(connection, _LOST, run=hold.run_id, step=step, **values)

    def stage_done(self, hold: database.Fence, step: int, stage: str, seconds: float) -> None:
        """Record a stage's seconds, the first time only; moves `sample` and `verify` on."""
        reached = STAGE_OF[stage]
        with self._write(hold) as connection:
            database.run(
                connection,
                _STAGE_DONE,
                run=hold.run_id,
                step=step,
                name=stage,
                stage=str(reached),
                seconds=seconds,
                order=[str(value) for value in STAGES],
            )


def _insert_seeds(connection: Connection, run_id: int, seeds: Sequence[SeedRow]) -> int:
    known = {
        (row.group_index, row.attempt_index)
        for row in database.rows(
            connection,
            "select group_index, attempt_index from archive.attempts "
            "where run_id = :run and step = -1",
            run=run_id,
        )
    }
    new = sorted(
        (seed for seed in seeds if (seed.slot, seed.draw) not in known),
        key=lambda seed: (seed.slot, seed.draw),
    )
    wrong = [seed.slot for seed in new if not math.isfinite(seed.value)]
    if wrong:
        raise UsageError(
            f"the seeds of slots {wrong} have no finite value",
            "give every seed of the problem a value, worse than any valid attempt if it is empty",
        )
    first = _reserve_sequence(connection, run_id, len(new))
    contents = Contents()
    values = [_seed_values(run_id, first + i, seed, contents) for i, seed in enumerate(new)]
    contents.write(connection)
    database.many(connection, _ADD_SEED, values)
    return len(new)


def _seed_values(run_id: int, seq: int, seed: SeedRow, contents: Contents) -> dict[str, Any]:
    return {
        "run": run_id,
        "slot": seed.slot,
        "draw": seed.draw,
        "seq": seq,
        "value": float(seed.value),
        "eligible": seed.draw == 0,
        "dedupe": arrays.dedupe_key(seed.construction, seed.program),
        "program": contents.text(seed.program),
        "construction": contents.construction(seed.construction),
    }


def _reserve_sequence(connection: Connection, run_id: int, count: int) -> int:
    return int(database.one(connection, _SEQUENCE, run=run_id, count=count).first)


def _has_step(connection: Connection, run_id: int, step: int) -> bool:
    sql = "select 1 from archive.steps where run_id = :run and step = :step"
    return database.first(connection, sql, run=run_id, step=step) is not None


def _check_order(
    connection: Connection, run_id: int, step: int, groups: Sequence[PlannedGroup]
) -> None:
    sql = """select step, stage from archive.steps where run_id = :run
        order by step desc limit 1"""
    last = database.first(connection, sql, run=run_id)
    if step != (last.step + 1 if last else 0):
        raise UsageError(f"step {step} cannot follow step {last.step if last else 'none'}")
    if last and last.stage not in ("archived", "updated", "committed"):
        raise UsageError(f"step {last.step} is only {last.stage}: settle it before step {step}")
    if not groups:
        raise UsageError(f"step {step} has no groups", "shorten the prompt or widen the window")


def _insert_plan(
    connection: Connection, run_id: int, step: int, groups: Sequence[PlannedGroup]
) -> None:
    _insert_seeds(connection, run_id, [group.draw for group in groups if group.draw])
    shown = {
        row.group_index: row.id
        for row in database.rows(connection, _LAST_DRAWS, run=run_id)
    }
    contents = Contents()
    values = []
    for group in groups:
        draw = group.draw
        shown_id = _draw_id(connection, run_id, draw) if draw else None
        values.append(
            {
                "run": run_id,
                "step": step,
                "group": group.group_index,
                "parent": group.parent_id,
                "shown": shown_id,
                "prompt": contents.text(group.prompt),
                "ids": np.asarray(group.prompt_ids, dtype=np.int32),
                "opening": escape(group.opening),
                "size": group.group_size,
                "visits": group.visits,
                "q": group.q,
                "prior": group.prior,
                "bonus": group.bonus,
                "puct": group.puct,
            }
        )
