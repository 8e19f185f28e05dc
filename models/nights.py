"""Schedules, their nights, and the runs that a night looks after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError

from eurekaflow.models import database
from eurekaflow.models.errors import UsageError
from eurekaflow.models.ownership import RUN_LOCKS, left
from eurekaflow.models.reads import Reads
from eurekaflow.models.registry import jsonb
from eurekaflow.models.states import NightState
from eurekaflow.models.text import escape

_SCHEDULES = """
    select s.*, greatest(s.watched_from, (
        select max(due_at) from archive.nights n
        where n.schedule_id = s.id and n.kind <> 'by_hand')) as settled_until
    from archive.schedules s where removed_at is null"""
_CHANGE = """
    update archive.schedules set revision = revision + 1, cron = coalesce(:cron, cron),
        timezone = coalesce(:timezone, timezone), plan = coalesce(:plan, plan),
        paused = coalesce(:paused, paused),
        watched_from = case when :cron is null and :timezone is null
            and not coalesce(paused and not :paused, false) then watched_from else now() end
    where name = :name and removed_at is null"""
# A night that ended well or was missed stays as it is; one that crashed or failed is begun again.
_BEGIN = """
    insert into archive.nights as n (schedule_id, due_at, kind, state, starts, flow_run_id, host,
        deadline_at, started_at)
    values (:schedule, :due, :kind, 'running', 1, :flow, :host, :deadline, now())
    on conflict (schedule_id, due_at) do update set starts = n.starts + 1, state = 'running',
        message = '', host = excluded.host, ended_at = null,
        flow_run_id = coalesce(excluded.flow_run_id, n.flow_run_id)
    where n.state in ('running', 'failed') returning *"""
_MISSED = """
    insert into archive.nights (schedule_id, due_at, kind, state, message, ended_at)
    values (:schedule, :due, 'scheduled', 'missed', :message, now())
    on conflict (schedule_id, due_at) do nothing"""
_END = """
    update archive.nights set state = :state, message = :message, ended_at = now()
    where id = :night and state = 'running'"""
# Crashed: running, but nobody has it. Failed runs are tried again by their own schedule only.
# Resumes count since a step was last committed, also since one was committed after the last.
_CRASHED = """
    select uuid, (state = 'running' or schedule_id = :schedule) and (resumes < :most
        or resumed_step is distinct from (select count(*) from archive.steps s
            where s.run_id = r.id and s.stage = 'committed')) as hopeful
    from archive.runs r where (
        state = 'running' and coalesce(lease_expires_at < now(), true)
        or state = 'failed' and schedule_id = :schedule and ended_by is null)
    order by id"""
# A lease outlives a killed process by up to a minute, in which its night is begun again. The lock
# goes with the process at once; a living owner without one has lost its connection for a moment.
_LEASES_HERE = """
    select uuid, lease_pid as pid from archive.runs r
    where state = 'running' and lease_host = :host and lease_expires_at > now()
        and not exists (select from pg_locks where locktype = 'advisory' and objsubid = 1
            and classid = :namespace and objid = r.id
            and database = (select oid from pg_database where datname = current_database()))"""
_EXPIRE = """
    update archive.runs set lease_expires_at = now()
    where uuid = :run and lease_host = :host and lease_pid = :pid"""
_RESUMED = """
    update archive.runs r set resumed_step = c.steps,
        resumes = case when r.resumed_step = c.steps then r.resumes + 1 else 1 end
    from (select count(*) as steps from archive.steps s join archive.runs on runs.id = s.run_id
        where uuid = :run and stage = 'committed') c
    where r.uuid = :run and (r.lease_expires_at is null or r.lease_expires_at < now()
        or r.state <> 'running')
    returning r.resumes"""
_LEASES = """
    select lease_owner, lease_host, lease_pid, lease_expires_at < now() as expired
    from archive.runs r where lease_owner is not null and (schedule_id = :schedule or exists (
        select from archive.ledger l where l.run_id = r.id and l.night_id = :night))"""
_LAST_RUN = """
    select uuid, state, ended_by, config from archive.runs
    where schedule_id = :schedule order by id desc limit 1"""


@dataclass(frozen=True, kw_only=True)
class ScheduleRow:
    """A schedule as it stands."""

    id: int
    name: str
    cron: str
    timezone: str
    plan: dict[str, Any]
    paused: bool
    revision: int
    settled_until: datetime  # due times later than this have not been dealt with


@dataclass(frozen=True, kw_only=True)
class NightRow:
    """A night as it stands."""

    id: int
    schedule_id: int
    due_at: datetime
    kind: str
    state: str
    message: str
    starts: int
    flow_run_id: str | None
    host: str
    deadline_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class LastRun:
    """The newest run of a schedule."""

    uuid: UUID
    state: str
    ended_by: str | None
    config: dict[str, Any]


class Nights(Reads):
    """What unattended work asks and records."""

    def add_schedule(
        self, name: str, *, cron: str, timezone: str, plan: Mapping[str, Any]
    ) -> ScheduleRow:
        """Add a schedule. Raises UsageError for a name that is taken."""
        sql = """insert into archive.schedules (name, cron, timezone, plan)
            values (:name, :cron, :timezone, :plan)"""
        try:
            with self._read() as connection:
                database.run(
                    connection, sql, name=name, cron=cron, timezone=timezone, plan=jsonb(plan)
                )
        except IntegrityError:
            raise UsageError(
                f"a schedule {name!r} exists already",
                f"choose another --name, or first: eureka nightly remove {name}",
            ) from None
        return self.schedule(name)

    @database.repeated
    def schedules(self) -> list[ScheduleRow]:
        """The schedules in force, by name."""
        with self._read() as connection:
            found = database.rows(connection, f"{_SCHEDULES} order by name")
        return [_schedule(row) for row in found]

    @database.repeated
    def schedule(self, name: str) -> ScheduleRow:
        """The schedule called `name`. Raises UsageError."""
        with self._read() as connection:
            row = database.first(connection, f"{_SCHEDULES} and name = :name", name=name)
        if row is None:
            raise UsageError(f"there is no schedule {name!r}", "eureka nightly list")
        return _schedule(row)

    def change_schedule(
        self,
        name: str,
        *,
        cron: str | None = None,
        timezone: str | None = None,
        plan: Mapping[str, Any] | None = None,
        paused: bool | None = None,
    ) -> ScheduleRow:
        """Change a schedule. What was due before a new cron line or a resumption is settled."""
        values = {
            "name": name,
            "cron": cron,
            "timezone": timezone,
            "plan": None if plan is None else jsonb(plan),
            "paused": paused,
        }
        with self._read() as connection:
            database.run(connection, _cast(_CHANGE), **values)
        return self.schedule(name)

    def remove_schedule(self, name: str) -> None:
        """Remove a schedule; its nights and runs stay. Raises UsageError."""
        found = self.schedule(name)
        with self._read() as connection:
            sql = "update archive.schedules set removed_at = now() where id = :id"
            database.run(connection, sql, id=found.id)

    def begin_night(
        self,
        schedule: int,
        due: datetime,
        *,
        kind: str,
        host: str,
        deadline: datetime | None,
        flow_run: str | None = None,
    ) -> NightRow | None:
        """Begin a night, or begin it again after a crash; None when it is over already."""
        values = {"kind": kind, "host": host, "deadline": deadline, "flow": flow_run}
        with self._read() as connection:
            row = database.first(connection, _BEGIN, schedule=schedule, due=due, **values)
        return None if row is None else _night(row)

    def add_missed(self, schedule: int, due: datetime, message: str) -> bool:
        """Record a night that did not happen, unless something is known of it; whether it was."""
        with self._read() as connection:
            values = {"due": due, "message": escape(message)}
            return database.run(connection, _MISSED, schedule=schedule, **values) > 0

    def end_night(self, night: int, state: NightState, message: str) -> None:
        """Record how a night ended."""
        with self._read() as connection:
            values = {"state": str(state), "message": escape(message)}
            database.run(connection, _END, night=night, **values)

    @database.repeated
    def nights(self, schedule: int, limit: int = 20) -> list[NightRow]:
        """The newest nights of a schedule, newest first."""
        sql = """select * from archive.nights where schedule_id = :schedule
            order by due_at desc limit :limit"""
        with self._read() as connection:
            found = database.rows(connection, sql, schedule=schedule, limit=limit)
        return [_night(row) for row in found]

    @database.repeated
    def night_of_flow_run(self, flow_run: str) -> NightRow | None:
        """The night that one of Prefect's flow runs began."""
        sql = "select * from archive.nights where flow_run_id = :flow order by id desc"
        with self._read() as connection:
            row = database.first(connection, sql, flow=flow_run)
        return None if row is None else _night(row)

    @database.repeated
    def expire_dead(self, host: str, is_alive: Callable[[int], bool]) -> None:
        """End the leases of this host's processes that are gone, instead of waiting for them."""
        with self._read() as connection:
            keys = {"host": host, "namespace": RUN_LOCKS >> 32}
            for row in database.rows(connection, _LEASES_HERE, **keys):
                if not is_alive(row.pid):
                    database.run(connection, _EXPIRE, run=row.uuid, host=host, pid=row.pid)

    @database.repeated
    def at_work(self, night: NightRow) -> bool:
        """Whether a living process has a run of the night's, by the runs' leases."""
        with self._read() as connection:
            found = database.rows(connection, _LEASES, schedule=night.schedule_id, night=night.id)
        return not all(map(left, found))

    @database.repeated
    def crashed_runs(self, schedule: int, *, most: int) -> list[tuple[UUID, bool]]:
        """Runs that nobody finished, oldest first, and whether one more resume is allowed."""
        with self._read() as connection:
            found = database.rows(connection, _CRASHED, schedule=schedule, most=most)
        return [(row.uuid, bool(row.hopeful)) for row in found]

    def count_resume(self, run: UUID) -> int:
        """Count an automatic resume; how many there were since a step was last committed."""
        with self._read() as connection:
            row = database.first(connection, _RESUMED, run=run)
        return 0 if row is None else int(row.resumes)

    @database.repeated
    def last_run(self, schedule: int) -> LastRun | None:
        """The newest run that a schedule started."""
        with self._read() as connection:
            row = database.first(connection, _LAST_RUN, schedule=schedule)
        return None if row is None else LastRun(**row._asdict())

    def assign_run(self, run: UUID, schedule: int) -> None:
        """Note which schedule started a run."""
        sql = "update archive.runs set schedule_id = :schedule where uuid = :run"
        with self._read() as connection:
            database.run(connection, sql, run=run, schedule=schedule)


def _cast(sql: str) -> str:
    """Parameters that may be null need a type where they stand alone."""
    kinds = {"cron": "text", "timezone": "text", "plan": "jsonb", "paused": "boolean"}
    for name, kind in kinds.items():
        sql = sql.replace(f":{name}", f"cast(:{name} as {kind})")
    return sql


def _schedule(row: Row[Any]) -> ScheduleRow:
    return ScheduleRow(**{n: getattr(row, n) for n in ScheduleRow.__dataclass_fields__})


def _night(row: Row[Any]) -> NightRow:
    return NightRow(**{n: getattr(row, n) for n in NightRow.__dataclass_fields__})
