"""What the stages ask: what is planned, missing, unverified, best; and SQL for users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row

from eurekaflow.models import database, reader
from eurekaflow.models.bodies import Bodies, read_texts
from eurekaflow.models.errors import PrerequisiteMissing, UsageError
from eurekaflow.models.reader import Params
from eurekaflow.models.registry import Registry
from eurekaflow.models.rows import AttemptRow, GroupRow, Pending, Progress, StepRow
from eurekaflow.models.text import unescape

if TYPE_CHECKING:
    from pandas import DataFrame

_GROUPS = """
    select g.*, g.parent_visits as visits, g.parent_q as q, g.parent_prior as prior,
        g.parent_bonus as bonus, g.parent_puct as puct
    from archive.groups g where run_id = :run and step = :step order by group_index"""
_MISSING = """
    select group_index, array_agg(attempt_index order by attempt_index) as slots
    from archive.attempts
    where run_id = :run and step = :step and state = 'planned'
    group by group_index order by group_index"""
_UNVERIFIED = """
    select a.id, a.group_index, a.attempt_index, a.response_hash, g.opening, g.parent_id,
        g.shown_id
    from archive.attempts a join archive.groups g using (run_id, step, group_index)
    where a.run_id = :run and a.step = :step and a.state = 'sampled' order by a.seq"""
_LAST_STEP = """
    select step, stage from archive.steps where run_id = :run order by step desc limit 1"""
_BEST = """
    select * from archive.attempts where run_id = :run and outcome = 'valid'
    order by value desc, seq limit 1"""
_BEST_DISTINCT = """
    select * from (
        select distinct on (coalesce(dedupe_key, program_hash)) * from archive.attempts
        where run_id = :run and outcome = 'valid'
        order by coalesce(dedupe_key, program_hash), value desc, seq
    ) one order by value desc, seq limit :count"""
_STEPS = "select * from archive.steps where run_id = :run order by step"
_ATTEMPTS = """
    select * from archive.attempts where run_id = :run and step = :step order by seq"""


class Reads(Registry, Bodies):
    """Questions about runs; none of them writes."""

    @database.repeated
    def progress(self, run_id: int) -> Progress:
        """Where the run stands: its unfinished step, or the next one when all are committed."""
        with self._read() as connection:
            version = database.one(
                connection, "select version from archive.runs where id = :run", run=run_id
            ).version
            last = database.first(connection, _LAST_STEP, run=run_id)
            if last is None or last.stage == "committed":
                step = last.step + 1 if last else 0
                return Progress(step=step, stage=None, version=version, missing={}, unverified=0)
            key = {"run": run_id, "step": last.step}
            return Progress(
                step=last.step,
                stage=last.stage,
                version=version,
                missing=_missing(connection, **key),
                unverified=len(database.rows(connection, _UNVERIFIED, **key)),
            )

    @database.repeated
    def groups(self, run_id: int, step: int) -> list[GroupRow]:
        """The planned groups of a step, in order, with their prompts."""
        with self._read() as connection:
            found = database.rows(connection, _GROUPS, run=run_id, step=step)
            prompts = read_texts(connection, (row.prompt_hash for row in found))
        return [_group_row(row, prompts) for row in found]

    @database.repeated
    def missing(self, run_id: int, step: int) -> dict[int, tuple[int, ...]]:
        """Slots without a response, by group; groups that lack none are absent."""
        with self._read() as connection:
            return _missing(connection, run=run_id, step=step)

    @database.repeated
    def unverified(self, run_id: int, step: int) -> list[Pending]:
        """Responses without a verdict, in sequence order."""
        with self._read() as connection:
            found = database.rows(connection, _UNVERIFIED, run=run_id, step=step)
            texts = read_texts(connection, (row.response_hash for row in found))
        return [
            Pending(
                attempt_id=row.id,
                group_index=row.group_index,
                attempt_index=row.attempt_index,
                response=texts.get(row.response_hash, ""),
                opening=unescape(row.opening),
                parent_id=row.parent_id,
                shown_id=row.shown_id,
            )
            for row in found
        ]

    @database.repeated
    def attempts(self, run_id: int, step: int) -> list[AttemptRow]:
        """All attempts of a step in sequence order; step -1 gives the seeds and their draws."""
        with self._read() as connection:
            found = database.rows(connection, _ATTEMPTS, run=run_id, step=step)
        return [_attempt_row(row) for row in found]

    @database.repeated
    def attempt(self, attempt_id: int) -> AttemptRow:
        """One attempt. Raises UsageError when there is none."""
        sql = "select * from archive.attempts where id = :id"
        with self._read() as connection:
            row = database.first(connection, sql, id=attempt_id)
        if row is None:
            raise UsageError(f"no attempt {attempt_id}", "eureka tree RUN lists them")
        return _attempt_row(row)

    @database.repeated
    def best(self, run_id: int) -> AttemptRow | None:
        """The valid attempt of the highest value, the earliest among equals."""
        with self._read() as connection:
            row = database.first(connection, _BEST, run=run_id)
        return None if row is None else _attempt_row(row)

    @database.repeated
    def best_attempts(self, run_id: int, count: int) -> list[AttemptRow]:
        """Up to `count` valid attempts that differ, best first."""
        with self._read() as connection:
            found = database.rows(connection, _BEST_DISTINCT, run=run_id, count=count)
        return [_attempt_row(row) for row in found]

    @database.repeated
    def step_rows(self, run_id: int) -> list[StepRow]:
        """All steps of a run in order."""
        fields = StepRow.__dataclass_fields__
        with self._read() as connection:
            found = database.rows(connection, _STEPS, run=run_id)
        return [StepRow(**{name: getattr(row, name) for name in fields}) for row in found]

    def query(
        self,
        sql: str,
        *,
        params: Params = None,
        timeout_s: float = 30,
        as_reader: bool = True,
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Columns and rows of one read-only statement; `params` as in psycopg (%s, %(name)s).

        Runs as the reader role when it exists, who sees the public views alone. Raises UsageError
        with Postgres' message for a statement that is wrong, writes, or takes too long.
        """
        return reader.query(self.url, sql, params, timeout_s=timeout_s, as_reader=as_reader)

    def dataframe(self, sql: str, *, params: Params = None, timeout_s: float = 30) -> DataFrame:
        """The rows of one statement as a pandas DataFrame, asked like `query`.

        Raises PrerequisiteMissing where pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise PrerequisiteMissing(
                "a data frame needs pandas, which is not installed",
                "pip install 'eurekaflow[dataframe]'",
            ) from None
        columns, rows = self.query(sql, params=params, timeout_s=timeout_s)
        return pandas.DataFrame(rows, columns=columns)


def _missing(connection: Connection, *, run: int, step: int) -> dict[int, tuple[int, ...]]:
    found = database.rows(connection, _MISSING, run=run, step=step)
    return {row.group_index: tuple(row.slots) for row in found}


def _group_row(row: Row[Any], prompts: Mapping[bytes, str]) -> GroupRow:
    values: dict[str, Any] = {
        name: getattr(row, name, None) for name in GroupRow.__dataclass_fields__
    }
    values["prompt"] = prompts.get(row.prompt_hash, "")
    values["prompt_ids"] = tuple(row.prompt_ids)
    values["opening"] = unescape(row.opening)
    return GroupRow(**values)


def _attempt_row(row: Row[Any]) -> AttemptRow:
    values: dict[str, Any] = {name: getattr(row, name) for name in AttemptRow.__dataclass_fields__}
    values["path"] = tuple(row.path)
    values["message"] = unescape(row.message)
    return AttemptRow(**values)
