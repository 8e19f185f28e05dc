"""Problems, runs and who owns them: the archive's entry points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Row

from eurekaflow.models import database
from eurekaflow.models.database import Database
from eurekaflow.models.errors import UsageError
from eurekaflow.models.masking import mask
from eurekaflow.models.ownership import Hold
from eurekaflow.models.rows import RunRow
from eurekaflow.models.states import RunState
from eurekaflow.models.text import escape, plain_json

_RUNS = """
    select r.*, p.name as problem, p.version as problem_version, p.direction,
        case when r.lease_expires_at > now() then r.lease_owner end as owner
    from archive.runs r join archive.problems p on p.id = r.problem_id"""
_ADD_PROBLEM = """
    insert into archive.problems (name, version, direction, metric, records, trust)
    values (:name, :version, :direction, :metric, :records, :trust)
    on conflict (name, version) do update set seen_at = now(), records = excluded.records,
        metric = excluded.metric,
        trust = case excluded.trust when 'foreign' then 'foreign' else problems.trust end
    returning id"""
_ADD_RUN = """
    insert into archive.runs
        (problem_id, config, seed, versions, fingerprint, hardware, flow_run_id)
    values (:problem, :config, :seed, :versions, :fingerprint, :hardware, :flow)
    returning id"""


class RunNotFound(UsageError, LookupError):
    """No run, or several runs, answer to a reference."""


class Registry(Database):
    """Problems and runs."""

    def add_problem(
        self,
        name: str,
        version: str,
        direction: str,
        metric: str,
        records: Sequence[Mapping[str, Any]] = (),
        trust: str = "verified",
    ) -> int:
        """Register a problem version, or refresh its records; its id."""
        with self._read() as connection:
            row = database.one(
                connection,
                _ADD_PROBLEM,
                name=name,
                version=version,
                direction=direction,
                metric=metric,
                records=jsonb(records),
                trust=trust,
            )
        return int(row.id)

    def add_run(
        self,
        *,
        problem: str,
        config: Mapping[str, Any],
        seed: int,
        versions: Mapping[str, Any],
        fingerprint: Mapping[str, Any],
        hardware: Mapping[str, Any],
        flow_run_id: str | None = None,
    ) -> RunRow:
        """Add a run of the problem's version registered last. Raises UsageError."""
        with self._read() as connection:
            added = database.one(
                connection,
                _ADD_RUN,
                problem=_problem_id(connection, problem),
                config=jsonb(config),
                seed=seed,
                versions=jsonb(versions),
                fingerprint=jsonb(fingerprint),
                hardware=jsonb(hardware),
                flow=flow_run_id,
            )
            return _run_row(database.one(connection, f"{_RUNS} where r.id = :id", id=added.id))

    @database.repeated
    def run(self, ref: str | int | UUID) -> RunRow:
        """The run called by uuid, unique uuid prefix, number or `last`. Raises RunNotFound."""
        wanted = str(ref).strip().lower()
        if wanted == "last":
            where = "r.id = (select max(id) from archive.runs)"
        elif wanted.isdigit():
            where = "r.id::text = :ref or starts_with(r.uuid::text, :ref)"
        else:
            where = "starts_with(r.uuid::text, :ref)"
        with self._read() as connection:
            found = database.rows(connection, f"{_RUNS} where {where}", ref=wanted)
        exact = [row for row in found if wanted in (str(row.id), str(row.uuid))]
        if len(exact or found) != 1 or not wanted:
            raise self._not_found(wanted, found)
        return _run_row((exact or found)[0])

    @database.repeated
    def runs(self, limit: int = 20) -> list[RunRow]:
        """The newest runs, newest first."""
        with self._read() as connection:
            sql = f"{_RUNS} order by r.id desc limit :limit"
            return [_run_row(row) for row in database.rows(connection, sql, limit=limit)]

    @database.repeated
    def unfinished(self) -> list[RunRow]:
        """Runs that have not finished, newest first; owned ones too."""
        with self._read() as connection:
            sql = f"{_RUNS} where r.state <> 'finished' order by r.id desc"
            return [_run_row(row) for row in database.rows(connection, sql)]

    def hold(self, run_id: int, *, owner: str, lease_s: float = 60) -> Hold:
        """Own a run. Raises RunOwned while another living process does, RunNotFound for no run."""
        self.run(run_id)
        return Hold(self._single, run_id, owner=owner, lease_s=lease_s)

    @database.repeated
    def set_flow_run(self, hold: Hold, flow_run_id: str) -> None:
        """Remember the orchestrator's flow run that works on the run now."""
        sql = "update archive.runs set flow_run_id = :flow where id = :run"
        with self._write(hold, "set_flow_run") as connection:
            database.run(connection, sql, run=hold.run_id, flow=flow_run_id)

    @database.repeated
    def finish(
        self, hold: Hold, state: RunState | str, message: str = "", *, rule: str | None = None
    ) -> None:
        """End the run as finished, failed or paused, by a rule; the hold stays until released."""
        sql = """update archive.runs set state = :state, message = :message, ended_by = :rule,
            finished_at = case when :state in ('finished', 'failed') then now() end
            where id = :run"""
        with self._write(hold, "finish") as connection:
            values = {
                "state": str(RunState(state)),
                "message": escape(mask(message)),
                "rule": rule,
            }
            database.run(connection, sql, run=hold.run_id, **values)

    @database.repeated
    def put_back(self, hold: Hold, before: RunRow) -> None:
        """Give a run the state that it was taken out of: nothing was done to it."""
        sql = """update archive.runs set state = :state, message = :message, ended_by = :rule,
            finished_at = :finished where id = :run"""
        with self._write(hold, "put_back") as connection:
            values = {
                "state": before.state,
                "message": before.message,
                "rule": before.ended_by,
                "finished": before.finished_at,
            }
            database.run(connection, sql, run=hold.run_id, **values)

    def _not_found(self, wanted: str, found: Sequence[Row[Any]]) -> RunNotFound:
        if found:
            listed = ", ".join(f"{row.id} ({row.uuid})" for row in found[:5])
            return RunNotFound(f"run {wanted!r} is ambiguous: {listed}", "give more characters")
        known = ", ".join(f"{row.id} ({str(row.uuid)[:8]}, {row.problem})" for row in self.runs(5))
        return RunNotFound(
            f"no run {wanted!r}; newest: {known or 'none'}", "list them with: eureka runs"
        )


def jsonb(value: Any) -> Jsonb:
    """A value for a jsonb column: strings escaped, NaN and infinities None."""
    return Jsonb(plain_json(value))


def _problem_id(connection: Connection, name: str) -> int:
    sql = "select id from archive.problems where name = :name order by seen_at desc, id desc"
    row = database.first(connection, sql, name=name)
    if row is None:
        raise UsageError(
            f"problem {name!r} is not registered in the archive", "call add_problem first"
        )
    return int(row.id)


def _run_row(row: Row[Any]) -> RunRow:
    fields = RunRow.__dataclass_fields__
    return RunRow(**{name: getattr(row, name) for name in fields})
