"""Continuing a run on purpose: forks, fresh policies, discarded weights, marks on steps.

A fork copies the steps up to one as rows of its own (attempts with new ids and the old sequence
numbers, tokens, groups, steps), so every view of it stands alone; texts and constructions are
shared by hash. Counters are replayed, because those of the older run know later steps. Weights are
not copied: its checkpoint rows say what replaying must give. Spend and claims stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from eurekaflow.models import database, tables
from eurekaflow.models.errors import UsageError
from eurekaflow.models.rebuild import Rebuild, rewrite
from eurekaflow.models.registry import jsonb
from eurekaflow.models.rows import RunRow
from eurekaflow.models.text import escape

_STEPS = "select step, stage, settings from archive.steps where run_id = :run order by step"
_FORK = """
    insert into archive.runs (problem_id, config, seed, versions, fingerprint, hardware,
        forked_from, fork_step, policy_from, policies, version)
    select problem_id, :config, :seed, versions, fingerprint, :hardware, id, :step, :policy_from,
        policies, (select coalesce(max(version_produced), 0) from archive.steps
                   where run_id = :run and step = :step)
    from archive.runs where id = :run returning id"""
_SAME = """
    with same as (
        select o.id as old, n.id as new from archive.attempts o
        join archive.attempts n on n.run_id = :new and n.seq = o.seq where o.run_id = :run
    )"""
_LINKS = f"""{_SAME}
    update archive.attempts n set parent_id = parent.new, path = coalesce((
            select array_agg(a.new order by t.place)
            from unnest(o.path) with ordinality t (id, place) join same a on a.old = t.id), '{{}}')
    from same join archive.attempts o on o.id = same.old
    left join same parent on parent.old = o.parent_id
    where n.id = same.new"""
_TOKENS = f"""{_SAME}
    insert into archive.tokens (attempt_id, ids, logprobs, mask)
    select same.new, t.ids, t.logprobs, t.mask
    from same join archive.tokens t on t.attempt_id = same.old"""
_CHECKPOINTS = """
    insert into archive.checkpoints (run_id, step, version, path, sha256, size_bytes, files,
        optimizer_sha256, state, changed_at, reason)
    select :new, step, version, path, sha256, size_bytes, files, optimizer_sha256, 'pruned', now(),
        'not copied from the run it branched from'
    from archive.checkpoints where run_id = :run and step <= :step"""
_NEXT_SEQ = """
    update archive.runs set next_seq = (
        select max(seq) + 1 from archive.attempts where run_id = :new) where id = :new"""
_OF_STEP = "update archive.steps set settings = :settings where run_id = :run and step = :step"
_BEGIN = """
    update archive.runs set config = config || :settings, policy_from = :first, version = 0,
        fingerprint = '{}', discarded_at = null, policies = policies || jsonb_build_object(
            cast(:first as text), jsonb_build_object('model', cast(:model as text), 'at', now()))
    where id = :run"""
_MARK = """
    update archive.steps set changed = changed || :changed where run_id = :run and step = :step"""
_DISCARD = """
    update archive.checkpoints set state = 'pruned', reason = :reason, changed_at = now()
    where run_id = :run and state = 'kept'"""
_DISCARDED = "update archive.runs set discarded_at = now() where id = :run"
_DROP_TOKENS = """
    delete from archive.tokens t using archive.attempts a
    where a.id = t.attempt_id and a.run_id = :run"""
_TOKENLESS = """
    select distinct a.step from archive.attempts a
    left join archive.tokens t on t.attempt_id = a.id
    where a.run_id = :run and a.step = any(:steps) and a.reward is not null
        and t.attempt_id is null order by a.step"""


class Continuing(Rebuild):
    """What may be done to a run besides working on it."""

    def fork(
        self,
        run: RunRow,
        *,
        at_step: int,
        config: Mapping[str, Any],
        hardware: Mapping[str, Any],
    ) -> RunRow:
        """A new run with the steps of `run` up to `at_step`, which must be committed.

        Copied steps remember the settings that differ from `config`. Raises UsageError.
        """
        with self._read() as connection:
            steps = database.rows(connection, _STEPS, run=run.id)
            _check_fork(run, steps, at_step)
            copied = [row for row in steps if row.step <= at_step]
            values = {
                "config": jsonb(config),
                "seed": config.get("seed", run.seed),
                "hardware": jsonb(hardware),
                "policy_from": _policy_from(connection, run, at_step),
            }
            added = database.one(connection, _FORK, run=run.id, step=at_step, **values)
            _copy(connection, run.id, added.id, at_step)
            for row in copied:
                before = {**run.config, **row.settings}
                kept = {k: v for k, v in before.items() if config.get(k) != v}
                key = {"run": added.id, "step": row.step}
                database.run(connection, _OF_STEP, settings=jsonb(kept), **key)
            rewrite(connection, added.id)
        return self.run(added.id)

    def begin_policy(self, hold: database.Fence, settings: Mapping[str, Any]) -> int:
        """Start over with fresh weights on the same tree; the first step they are trained on.

        `settings` are what changes (a model, say). A step begun before is finished by the new
        policy and trains nothing, so tokens of the old one never enter an update of the new.
        """
        with self._write(hold, "begin_policy") as connection:
            config = database.one(
                connection, "select config from archive.runs where id = :run", run=hold.run_id
            ).config
            old = {k: config[k] for k, v in settings.items() if k in config and config[k] != v}
            steps = database.rows(connection, _STEPS, run=hold.run_id)
            for row in steps:
                kept = jsonb({**old, **row.settings})
                database.run(connection, _OF_STEP, run=hold.run_id, step=row.step, settings=kept)
            first = steps[-1].step + 1 if steps else 0
            model = settings.get("model", config.get("model", ""))
            values = {"settings": jsonb(settings), "first": first, "model": escape(str(model))}
            database.run(connection, _BEGIN, run=hold.run_id, **values)
        return first

    @database.repeated
    def mark_step(self, hold: database.Fence, step: int, changed: Mapping[str, Any]) -> None:
        """Note on a step what differed from the run's recorded versions and fingerprint."""
        with self._write(hold, "mark_step") as connection:
            key = {"run": hold.run_id, "step": step}
            database.run(connection, _MARK, changed=jsonb(changed), **key)

    def discard_weights(
        self, hold: database.Fence, reason: str, *, tokens: bool = False
    ) -> tuple[int, int]:
        """Give up all weights, and with `tokens` what they could be replayed from; how many."""
        with self._write(hold, "discard_weights") as connection:
            gone = database.run(connection, _DISCARD, run=hold.run_id, reason=escape(reason))
            database.run(connection, _DISCARDED, run=hold.run_id)
            dropped = database.run(connection, _DROP_TOKENS, run=hold.run_id) if tokens else 0
        return gone, dropped

    @database.repeated
    def without_tokens(self, run_id: int, steps: Iterable[int]) -> list[int]:
        """Those of the steps whose scored attempts lack tokens: they cannot be replayed."""
        with self._read() as connection:
            found = database.rows(connection, _TOKENLESS, run=run_id, steps=list(steps))
        return [int(row.step) for row in found]


def _check_fork(run: RunRow, steps: Sequence[Any], at_step: int) -> None:
    done = [row.step for row in steps if row.stage == "committed"]
    if at_step not in done:
        reach = f"steps 0 to {done[-1]} are" if done else "no step is"
        raise UsageError(
            f"run {run.uuid} has no committed step {at_step}: {reach} committed",
            f"eureka show {str(run.uuid)[:8]} lists its steps",
        )


def _policy_from(connection: Connection, run: RunRow, at_step: int) -> int:
    """The first step of the policy that was in use at `at_step`."""
    sql = "select policies from archive.runs where id = :run"
    begun = database.one(connection, sql, run=run.id).policies
    return max((int(first) for first in begun if int(first) <= at_step), default=0)


def _copy(connection: Connection, old: int, new: int, step: int) -> None:
    key = {"run": old, "new": new, "step": step}
    attempts = _columns(tables.attempts, "id", "run_id", "parent_id", "path")
    shown = """(o.step >= 0 or o.attempt_index = 0 or exists (
        select from archive.groups g
        where g.run_id = :run and g.shown_id = o.id and g.step <= :step))"""
    database.run(
        connection,
        f"""insert into archive.attempts (run_id, {", ".join(attempts)})
            select :new, {", ".join(attempts)} from archive.attempts o
            where run_id = :run and step <= :step and {shown} order by seq""",
        **key,
    )
    database.run(connection, _LINKS, run=old, new=new)
    steps = _columns(tables.steps, "run_id", "staging")
    database.run(
        connection,
        f"""insert into archive.steps (run_id, {", ".join(steps)})
            select :new, {", ".join(steps)} from archive.steps
            where run_id = :run and step <= :step""",
        **key,
    )
    groups = _columns(tables.groups, "run_id", "parent_id", "shown_id")
    database.run(
        connection,
        f"""{_SAME} insert into archive.groups (run_id, parent_id, shown_id, {", ".join(groups)})
            select :new, parent.new, shown.new, {", ".join("g." + name for name in groups)}
            from archive.groups g join same parent on parent.old = g.parent_id
            join same shown on shown.old = g.shown_id
            where g.run_id = :run and g.step <= :step""",
        **key,
    )
    database.run(connection, _TOKENS, run=old, new=new)
    database.run(connection, _CHECKPOINTS, **key)
    database.run(connection, _NEXT_SEQ, new=new)


def _columns(table: Any, *but: str) -> list[str]:
    return [column.name for column in table.columns if column.name not in but]
