"""A device of a machine belongs to one process at a time: an advisory lock that dies with it.

The key is host and device. Nights and GPU runs take it alone; runs that share a CPU on purpose
take it together, and a night waits for them. The holder is named by its connection.
"""

from __future__ import annotations

import contextlib
from types import TracebackType

from sqlalchemy import Connection, NullPool, create_engine

from eurekaflow.models import database
from eurekaflow.models.errors import RunOwned

_NAMESPACE = 0x65757264  # apart from other users of advisory locks
_TRY = "select pg_try_advisory_lock{shared}({namespace}, hashtext(:place)) as locked"
_HOLDER = """
    select a.application_name as name from pg_locks l join pg_stat_activity a using (pid)
    where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid = :namespace
        and l.objid = hashtext(:place)::bigint & 4294967295
        and l.database = (select oid from pg_database where datname = current_database())
    limit 1"""


class MachineLock:
    """The lock on `place` (such as `host cpu`) until `release`, held by a connection of its own.

    Raises RunOwned with the holder's name while another process has it.
    """

    def __init__(self, url: str, place: str, *, owner: str, shared: bool = False) -> None:
        self.place = place
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with database.errors():
            self._connection = engine.connect()
            try:
                self._take(owner, shared)
            except BaseException:
                self._connection.close()
                raise

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        with contextlib.suppress(Exception):  # the server may be gone, and the lock with it
            self._connection.invalidate()
            self._connection.close()

    def __enter__(self) -> MachineLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _take(self, owner: str, shared: bool) -> None:
        name = "select set_config('application_name', :name, false)"
        database.rows(self._connection, name, name=owner[:63])
        sql = _TRY.format(shared="_shared" if shared else "", namespace=_NAMESPACE)
        if database.one(self._connection, sql, place=self.place).locked:
            return
        holder = holder_of(self._connection, self.place)
        raise RunOwned(
            f"{self.place} is in use by {holder or 'another process'}",
            "wait for it, or end that process; its run can be resumed afterwards",
        )


def holder_of(connection: Connection, place: str) -> str:
    """Who holds the lock on a place; empty when nobody does."""
    row = database.first(connection, _HOLDER, namespace=_NAMESPACE, place=place)
    return "" if row is None else str(row.name)


def holder(url: str, place: str) -> str:
    """As `holder_of`, over a connection of its own."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with database.errors(), engine.connect() as connection:
        return holder_of(connection, place)
