"""What runs and nights have spent, from the ledger: tokens, CPU and GPU seconds, money."""

from __future__ import annotations

from dataclasses import dataclass, fields

from eurekaflow.models import database
from eurekaflow.models.reads import Reads

_ADD = """
    insert into archive.ledger as l (run_id, step, stage, epoch, tokens_in, tokens_out,
        tokens_trained, cpu_s, gpu_s, money, night_id)
    values (:run, :step, :stage, :epoch, :tokens_in, :tokens_out, :tokens_trained, :cpu_s,
        :gpu_s, :money, :night)
    on conflict (run_id, step, stage, epoch) do update set
        tokens_in = greatest(l.tokens_in, excluded.tokens_in),
        tokens_out = greatest(l.tokens_out, excluded.tokens_out),
        tokens_trained = greatest(l.tokens_trained, excluded.tokens_trained),
        cpu_s = greatest(l.cpu_s, excluded.cpu_s), gpu_s = greatest(l.gpu_s, excluded.gpu_s),
        money = greatest(l.money, excluded.money)"""
_SUMS = """
    coalesce(sum(tokens_in), 0)::bigint as tokens_in,
    coalesce(sum(tokens_out), 0)::bigint as tokens_out,
    coalesce(sum(tokens_trained), 0)::bigint as tokens_trained,
    coalesce(sum(cpu_s), 0) as cpu_s, coalesce(sum(gpu_s), 0) as gpu_s,
    coalesce(sum(money), 0) as money"""
_OF_RUN = f"""
    select {_SUMS},
        (select count(*) from archive.attempts where run_id = :run and sampled_at is not null)
            as attempts,
        (select count(*) from archive.steps where run_id = :run and stage = 'committed') as steps
    from archive.ledger where run_id = :run"""
_OF_STEP = f"""
    select {_SUMS}, 0 as steps,
        (select count(*) from archive.attempts where run_id = :run and step = :step
            and sampled_at is not null) as attempts
    from archive.ledger where run_id = :run and step = :step"""
# Steps that the night worked on: a night that is tried again days later began before much that
# others did. Of a step shared with them, the attempts between its first start and its end count.
_OF_NIGHT = f"""
    with n as (select * from archive.nights where id = :night),
    mine as (select distinct run_id, step from archive.ledger where night_id = :night),
    others as (
        select run_id, step, bool_or(stage = 'checkpoint') as committed
        from archive.ledger join mine using (run_id, step)
        where night_id is distinct from :night group by run_id, step
    )
    select {_SUMS},
        (select count(*) from archive.attempts a join mine using (run_id, step), n
            where a.sampled_at between n.started_at and coalesce(n.ended_at, 'infinity'))
            as attempts,
        (select count(*) from archive.steps s join mine using (run_id, step)
            left join others using (run_id, step), n
            where s.committed_at between n.started_at and coalesce(n.ended_at, 'infinity')
                and not coalesce(others.committed, false))
            as steps
    from archive.ledger where night_id = :night"""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Amounts of everything that can be budgeted."""

    attempts: int = 0
    steps: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_trained: int = 0
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    money: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        names = [field.name for field in fields(self)]
        return Spent(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def amount(self, kind: str) -> float:
        """The amount of attempts, steps, tokens, cpu_hours, gpu_hours or money."""
        if kind == "tokens":
            return self.tokens_in + self.tokens_out + self.tokens_trained
        if kind.endswith("_hours"):
            return float(getattr(self, kind.replace("_hours", "_s"))) / 3600
        return float(getattr(self, kind))


class Spending(Reads):
    """The ledger."""

    @database.repeated
    def add_ledger(
        self,
        hold: database.Fence,
        step: int,
        stage: str,
        *,
        tokens_in: int = 0,
        tokens_out: int = 0,
        tokens_trained: int = 0,
        cpu_s: float = 0.0,
        gpu_s: float = 0.0,
        money: float = 0.0,
        night: int | None = None,
    ) -> None:
        """Record all that a stage has spent under this owner so far; repeating changes nothing."""
        values = {
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "tokens_trained": tokens_trained,
            "cpu_s": cpu_s,
            "gpu_s": gpu_s,
            "money": money,
            "night": night,
        }
        key = {"run": hold.run_id, "step": step, "stage": stage, "epoch": hold.epoch}
        with self._write(hold, "add_ledger") as connection:
            database.run(connection, _ADD, **key, **values)

    def spent(self, run_id: int) -> Spent:
        """What a run has spent under all its owners."""
        return self._spent(_OF_RUN, run=run_id)

    def spent_in_step(self, run_id: int, step: int) -> Spent:
        """What one step has spent under all its owners."""
        return self._spent(_OF_STEP, run=run_id, step=step)

    def spent_in_night(self, night: int) -> Spent:
        """What a night has spent on all its runs, restarts included."""
        return self._spent(_OF_NIGHT, night=night)

    @database.repeated
    def _spent(self, sql: str, **values: int) -> Spent:
        with self._read() as connection:
            return Spent(**database.one(connection, sql, **values)._asdict())
