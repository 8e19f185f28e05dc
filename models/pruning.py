"""Dropping what old steps no longer need: tokens and large contents, never an attempt.

Kept whatever the policy says: everything of steps that are not committed; tokens newer than the
oldest kept checkpoint, because a lost version of the weights is replayed from them (of a run that
never trained, tokens go once it is finished); contents of seeds, of attempts that may be parents,
of improvements, of claimed attempts, of what open groups build on, and of the ancestors of all
these; contents that any other attempt shares. Hashes stay, so that dedupe and replay still know
what is equal. Every pruning is a row in `prunings`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection

from eurekaflow.models import database
from eurekaflow.models.database import Database
from eurekaflow.models.errors import RunOwned
from eurekaflow.models.registry import jsonb

_OWNED = """
    select lease_owner, coalesce(lease_expires_at > now(), false) as owned from archive.runs
    where id = :run for update"""
# Writers wait for the moment it takes, so that no content is shared anew meanwhile.
_LOCK = "lock table archive.bodies in share row exclusive mode"
_BOUNDS = """
    select coalesce((
            select s.step from archive.steps s where s.run_id = r.id and s.stage = 'committed'
            order by s.step desc offset :keep limit 1), -1) as until_step,
        case when r.version = 0 and r.state = 'finished' then 2147483647 else coalesce((
            select min(c.step) from archive.checkpoints c
            where c.run_id = r.id and c.state = 'kept'), -1) end as replayable
    from archive.runs r where r.id = :run"""
_TOKENS = """
    with gone as (
        delete from archive.tokens t using archive.attempts a
        where a.id = t.attempt_id and a.run_id = :run and a.step between 0 and :until
        returning pg_column_size(t.ids) + pg_column_size(t.logprobs) + pg_column_size(t.mask)
            as size
    ) select count(*) as rows, coalesce(sum(size), 0)::bigint as bytes from gone"""
_DOOMED = """
    with best as (
        select id, path, value, max(value) over (order by seq
            rows between unbounded preceding and 1 preceding) as before
        from archive.attempts where run_id = :run and outcome = 'valid'
    ), root as (
        select id, path from best where before is null or value > before
        union all
        select id, path from archive.attempts where run_id = :run and (eligible or step = -1)
        union all
        select a.id, a.path from archive.claims c join archive.attempts a on a.id = c.attempt_id
        where a.run_id = :run
        union all
        select a.id, a.path from archive.groups g join archive.attempts a
            on a.id in (g.parent_id, g.shown_id)
        where g.run_id = :run and g.step > :until
    ), kept as (
        select id from root union select unnest(path) from root
    ), doomed as (
        select a.* from archive.attempts a
        where a.run_id = :run and a.step between 0 and :until
            and not exists (select from kept k where k.id = a.id)
    ), wanted as (
        select h from doomed d, unnest(array[d.response_hash, d.program_hash, d.stdout_hash,
            d.construction_hash]) h where h is not null
        union
        select prompt_hash from archive.groups
        where run_id = :run and step between 0 and :until and prompt_hash is not null
    ), shared as (
        select h from archive.attempts a, unnest(array[a.response_hash, a.program_hash,
            a.stdout_hash, a.construction_hash]) h
        where h in (select h from wanted)
            and not exists (select from doomed d where d.id = a.id)
        union all
        select prompt_hash from archive.groups
        where prompt_hash is not null and not (run_id = :run and step between 0 and :until)
    ), gone as (
        select b.hash, coalesce(pg_column_size(b.content), pg_column_size(b.numbers)) as size
        from archive.bodies b join wanted on wanted.h = b.hash
        where b.pruned_at is null and not exists (select from shared s where s.h = b.hash)
    )"""
_BODIES = f"""{_DOOMED}, dropped as (
        update archive.bodies b set content = null, numbers = null, pruned_at = now()
        from gone where gone.hash = b.hash
    ) select count(*) as rows, coalesce(sum(size), 0)::bigint as bytes from gone"""
_RECORD = """
    insert into archive.prunings
        (run_id, policy, until_step, tokens_until, tokens, bodies, bytes)
    values (:run, :policy, :until_step, :tokens_until, :tokens, :bodies, :bytes)"""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What a pruning dropped."""

    until_step: int  # last step whose contents went, -1 for none
    tokens_until: int  # last step whose tokens went, -1 for none
    tokens: int  # attempts
    bodies: int
    bytes: int  # as stored, before Postgres gives the space back


class Pruning(Database):
    """Saving space in finished steps."""

    def prune(
        self,
        run_id: int,
        *,
        keep_steps: int = 10,
        tokens: bool = True,
        bodies: bool = True,
        dry_run: bool = False,
    ) -> Pruned:
        """Drop tokens and contents of all committed steps but the newest `keep_steps`.

        With `dry_run` nothing changes. Raises RunOwned while a process owns the run.
        """
        with database.errors(), self._engine.connect() as connection, connection.begin() as work:
            _refuse_owned(connection, run_id)
            bounds = database.one(connection, _BOUNDS, run=run_id, keep=keep_steps)
            until = min(bounds.until_step, bounds.replayable) if tokens else -1
            token = database.one(connection, _TOKENS, run=run_id, until=until)
            last = bounds.until_step if bodies else -1
            database.run(connection, _LOCK)
            body = database.one(connection, _BODIES, run=run_id, until=last)
            done = Pruned(
                until_step=last,
                tokens_until=until,
                tokens=token.rows,
                bodies=body.rows,
                bytes=token.bytes + body.bytes,
            )
            policy = jsonb({"keep_steps": keep_steps, "tokens": tokens, "bodies": bodies})
            if dry_run:
                work.rollback()
            elif done.tokens or done.bodies:
                database.run(connection, _RECORD, run=run_id, policy=policy, **asdict(done))
        return done

    def vacuum(self) -> None:
        """Make the room of what was pruned usable again."""
        with database.errors(), self._single.connect() as connection:
            for table in ("tokens", "bodies"):
                database.run(connection, f"vacuum (analyze) archive.{table}")


def _refuse_owned(connection: Connection, run_id: int) -> None:
    row = database.one(connection, _OWNED, run=run_id)
    if row.owned:
        raise RunOwned(
            f"run {run_id} is owned by {row.lease_owner}", "prune it after that process ended"
        )
