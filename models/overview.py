"""What people ask of a run while it works and when it ends: a step in numbers, the totals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eurekaflow.models import database
from eurekaflow.models.reads import Reads
from eurekaflow.models.registry import jsonb
from eurekaflow.models.rows import StepRow

_STEP = "select * from archive.steps where run_id = :run and step = :step"
_SPENT = """
    select coalesce(sum(part.value::float8), 0) as seconds
    from archive.steps, jsonb_each_text(seconds) part where run_id = :run"""
_IN_NUMBERS = """
    select count(*) as attempts, count(*) filter (where outcome = 'valid') as valid,
        avg(reward) as mean_reward, max(value) as best_value,
        count(distinct program_hash) as programs
    from archive.attempts where run_id = :run and step = :step"""
_BEST_UNTIL = """
    select max(value) as value from archive.attempts
    where run_id = :run and outcome = 'valid' and step <= :step"""
_GROUPS = """
    select avg(beta) as beta, avg(kl) as kl from archive.groups
    where run_id = :run and step = :step"""
_TOTALS = """
    select count(*) filter (where step >= 0) as attempts,
        count(*) filter (where outcome = 'valid') as valid,
        max(value) filter (where outcome = 'valid') as best,
        max(value) filter (where outcome = 'seed') as seed,
        (select count(*) from archive.steps s where s.run_id = :run and stage = 'committed')
            as steps
    from archive.attempts where run_id = :run"""
_PARENT_VALUE = """
    select p.value from archive.attempts a join archive.attempts p on p.id = a.parent_id
    where a.id = :id"""


@dataclass(frozen=True, kw_only=True)
class StepSummary:
    """A step in numbers; values, not scores."""

    step: int
    attempts: int
    valid: int
    distinct: int  # programs that differ: a policy that repeats itself has stopped searching
    mean_reward: float | None  # over scored attempts, failures as 0
    best_value: float | None  # of this step
    best_so_far: float | None
    beta: float | None  # mean over groups
    kl: float | None  # achieved, mean over groups
    seconds: dict[str, float]  # by stage
    metrics: dict[str, Any]  # of the update


@dataclass(frozen=True, kw_only=True)
class Totals:
    """A run in numbers; values, not scores."""

    steps: int  # committed
    attempts: int
    valid: int
    best: float | None
    seed: float | None  # the best seed's value
    seconds: float  # run time: all stages of all steps


class Overview(Reads):
    """Summaries of steps and runs."""

    @database.repeated
    def step(self, run_id: int, step: int) -> StepRow | None:
        """One step as it stands, None if it is not planned."""
        with self._read() as connection:
            row = database.first(connection, _STEP, run=run_id, step=step)
        if row is None:
            return None
        return StepRow(**{name: getattr(row, name) for name in StepRow.__dataclass_fields__})

    @database.repeated
    def seconds_spent(self, run_id: int) -> float:
        """Run time so far: the seconds of every stage of every step."""
        with self._read() as connection:
            return float(database.one(connection, _SPENT, run=run_id).seconds)

    @database.repeated
    def step_summary(self, run_id: int, step: int) -> StepSummary:
        """A planned step in numbers."""
        key = {"run": run_id, "step": step}
        with self._read() as connection:
            row = database.one(connection, _STEP, **key)
            numbers = database.one(connection, _IN_NUMBERS, **key)
            best = database.one(connection, _BEST_UNTIL, **key).value
            groups = database.one(connection, _GROUPS, **key)
        return StepSummary(
            step=step,
            attempts=numbers.attempts,
            valid=numbers.valid,
            distinct=numbers.programs,
            mean_reward=numbers.mean_reward,
            best_value=numbers.best_value,
            best_so_far=best,
            beta=groups.beta,
            kl=groups.kl,
            seconds=dict(row.seconds),
            metrics=dict(row.metrics),
        )

    @database.repeated
    def totals(self, run_id: int) -> Totals:
        """A run in numbers."""
        with self._read() as connection:
            row = database.one(connection, _TOTALS, run=run_id)
            spent = database.one(connection, _SPENT, run=run_id).seconds
        return Totals(**row._asdict(), seconds=float(spent))

    @database.repeated
    def parent_value(self, attempt_id: int) -> float | None:
        """The value of an attempt's parent, None for seeds."""
        with self._read() as connection:
            row = database.first(connection, _PARENT_VALUE, id=attempt_id)
        return None if row is None else row.value

    @database.repeated
    def reconfigure(self, hold: database.Fence, **settings: Any) -> None:
        """Change settings of a held run that only say how far it goes, such as `steps`."""
        sql = "update archive.runs set config = config || :settings where id = :run"
        with self._write(hold, "reconfigure") as connection:
            database.run(connection, sql, run=hold.run_id, settings=jsonb(settings))

    @database.repeated
    def record_fingerprint(
        self, hold: database.Fence, fingerprint: Mapping[str, str]
    ) -> dict[str, Any]:
        """Store what bit equality depends on, the first time; returns what is stored."""
        sql = """update archive.runs set fingerprint = :fingerprint
            where id = :run and fingerprint = '{}'"""
        with self._write(hold, "record_fingerprint") as connection:
            database.run(connection, sql, run=hold.run_id, fingerprint=jsonb(fingerprint))
            stored = "select fingerprint from archive.runs where id = :run"
            return dict(database.one(connection, stored, run=hold.run_id).fingerprint)
