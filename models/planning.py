"""Writing seeds and plans: which attempts will exist, in which order, from which parents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection

from eurekaflow.models import arrays, database
from eurekaflow.models.bodies import Contents
from eurekaflow.models.errors import UsageError
from eurekaflow.models.reads import Reads
from eurekaflow.models.rows import GroupRow, PlannedGroup, SeedRow
from eurekaflow.models.states import Stage, reached
from eurekaflow.models.text import escape

_SEQUENCE = """
    update archive.runs set next_seq = next_seq + :count where id = :run
    returning next_seq - :count as first"""
_ORIGIN = "update archive.runs set forked_from = :origin where id = :run"
_KNOWN_SEEDS = """
    select group_index, attempt_index from archive.attempts where run_id = :run and step = -1"""
_ADD_SEED = """
    insert into archive.attempts (run_id, step, group_index, attempt_index, seq, state, outcome,
        value, archivable, eligible, dedupe_key, program_hash, construction_hash, verified_at)
    values (:run, -1, :slot, :draw, :seq, 'verified', 'seed', :value, true, :eligible, :dedupe,
        :program, :construction, now())"""
_LAST_STEP = """
    select step, stage from archive.steps where run_id = :run order by step desc limit 1"""
_ADD_STEP = """
    insert into archive.steps (run_id, step, stage, version_sampled)
    select id, :step, 'planned', version from archive.runs where id = :run"""
_ADD_GROUP = """
    insert into archive.groups (run_id, step, group_index, parent_id, shown_id, prompt_hash,
        prompt_ids, opening, group_size, parent_visits, parent_q, parent_prior, parent_bonus,
        parent_puct)
    select p.run_id, :step, :group, p.id,
        coalesce((select d.id from archive.attempts d
            where p.step = -1 and d.run_id = p.run_id and d.step = -1
                and d.group_index = p.group_index
            order by d.attempt_index desc limit 1), p.id),
        :prompt, :ids, :opening, :size, :visits, :q, :prior, :bonus, :puct
    from archive.attempts p where p.id = :parent and p.run_id = :run"""
_RESERVE = """
    insert into archive.attempts (run_id, step, group_index, attempt_index, seq, parent_id, path,
        state)
    select g.run_id, g.step, g.group_index, slot, :first + g.upto - g.group_size + slot,
        g.parent_id, p.path || p.id, 'planned'
    from (select *, sum(group_size) over (order by group_index) as upto from archive.groups
          where run_id = :run and step = :step) g
    join archive.attempts p on p.id = g.parent_id
    cross join lateral generate_series(0, g.group_size - 1) slot"""


class Planning(Reads):
    """Seeds and plans."""

    @database.repeated
    def add_seeds(
        self, hold: database.Fence, seeds: Sequence[SeedRow], *, taken_from: int | None = None
    ) -> int:
        """Add starting points, or later draws of their slots; how many were new.

        Every value must be finite (UsageError). Draw 0 of a slot is the node; a later draw only
        changes what the node shows and its value. `taken_from` is the run whose answers they are.
        """
        with self._write(hold, "add_seeds") as connection:
            if taken_from is not None:
                database.run(connection, _ORIGIN, run=hold.run_id, origin=taken_from)
            return _insert_seeds(connection, hold.run_id, seeds)

    @database.repeated
    def plan(
        self, hold: database.Fence, step: int, groups: Sequence[PlannedGroup]
    ) -> list[GroupRow]:
        """Plan a step: its groups and their attempts, numbered in (group, attempt) order.

        An existing plan is kept and returned. Raises UsageError when the step before is not
        archived, a parent is not of this run, or there is no group.
        """
        with self._write(hold, "plan") as connection:
            last = database.first(connection, _LAST_STEP, run=hold.run_id)
            if last is None or step > last.step:
                _check_order(step, last, groups)
                _insert_plan(connection, hold.run_id, step, groups)
        return self.groups(hold.run_id, step)


def _insert_seeds(connection: Connection, run_id: int, seeds: Sequence[SeedRow]) -> int:
    known = {tuple(row) for row in database.rows(connection, _KNOWN_SEEDS, run=run_id)}
    wanted = {(seed.slot, seed.draw): seed for seed in seeds}
    new = [wanted[key] for key in sorted(wanted.keys() - known)]
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
        "program": contents.program(seed.program),
        "construction": contents.construction(seed.construction),
    }


def _reserve_sequence(connection: Connection, run_id: int, count: int) -> int:
    row = database.one(connection, _SEQUENCE, run=run_id, count=count)
    return int(row[0])


def _check_order(step: int, last: Any, groups: Sequence[PlannedGroup]) -> None:
    if step != (last.step + 1 if last else 0):
        raise UsageError(f"step {step} cannot follow step {last.step if last else 'none'}")
    if last and not reached(last.stage, Stage.ARCHIVED):
        raise UsageError(f"step {last.step} is only {last.stage}: settle it before step {step}")
    if not groups:
        raise UsageError(f"step {step} has no groups: no prompt fits the window")


def _insert_plan(
    connection: Connection, run_id: int, step: int, groups: Sequence[PlannedGroup]
) -> None:
    _insert_seeds(connection, run_id, [group.draw for group in groups if group.draw])
    contents = Contents()
    values = [_group_values(run_id, step, group, contents) for group in groups]
    contents.write(connection)
    database.run(connection, _ADD_STEP, run=run_id, step=step)
    database.many(connection, _ADD_GROUP, values)
    size = sum(group.group_size for group in groups)
    first = _reserve_sequence(connection, run_id, size)
    reserved = database.run(connection, _RESERVE, run=run_id, step=step, first=first)
    if reserved != size:
        parents = sorted({group.parent_id for group in groups})
        raise UsageError(f"a parent among {parents} is no attempt of run {run_id}")


def _group_values(
    run_id: int, step: int, group: PlannedGroup, contents: Contents
) -> dict[str, Any]:
    return {
        "run": run_id,
        "step": step,
        "group": group.group_index,
        "parent": group.parent_id,
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
