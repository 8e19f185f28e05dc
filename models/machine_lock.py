"""A device of a machine belongs to one process at a time: an advisory lock that dies with it.

The key is host and device. Nights and GPU runs take it alone; runs that share a CPU on purpose
take it together, and a night waits for them. The holder is named by its connection.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType

from sqlalchemy import Connection, NullPool, create_engine

from eurekaflow.models import database
from eurekaflow.models.errors import ArchiveUnavailable, EurekaError, RunOwned

_NAMESPACE = 0x65757264  # apart from other users of advisory locks
LOOK_S = 1.0  # between two looks at the connection
_TRY = "select pg_try_advisory_lock{shared}({namespace}, hashtext(:place)) as locked"
_HOLDER = """
    select a.application_name as name from pg_locks l join pg_stat_activity a using (pid)
    where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid = :namespace
        and l.objid = hashtext(:place)::bigint & 4294967295
        and l.database = (select oid from pg_database where datname = current_database())
    limit 1"""


class MachineLock:
    """The lock on `place` (such as `host cpu`) until `release`, held by a connection of its own.

    Raises RunOwned with the holder's name while another process has it. A connection that breaks,
    as in a restart of the server, is made again in the background and the lock with it; `told`
    hears when another process was faster.
    """

    def __init__(
        self,
        url: str,
        place: str,
        *,
        owner: str,
        shared: bool = False,
        told: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.place, self._owner, self._shared, self._told = place, owner, shared, told
        self._engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._guard, self._stop = threading.Lock(), threading.Event()
        self._lost = ""
        self._connection = self._opened()
        self._keeper = threading.Thread(target=self._keep, name=f"lock of {place}", daemon=True)
        self._keeper.start()

    def release(self) -> None:
        """Give it back; a second call does nothing."""
        self._stop.set()
        with self._guard:
            self._drop()

    def hold(self) -> None:
        """Make sure of the lock. Raises RunOwned when it went to another, ArchiveUnavailable."""
        with self._guard:
            if self._stop.is_set():
                return
            if not self._connection.closed:
                with contextlib.suppress(ArchiveUnavailable), database.errors():
                    database.one(self._connection, "select 1 as alive")
                    return
            self._drop()
            self._connection = self._opened()

    def _keep(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self.hold()
                self._lost = ""
            except EurekaError as error:  # tried again at the next look
                if isinstance(error, RunOwned) and not self._lost:
                    self._lost = error.message
                    self._told(f"{error.message}, after the database was away")

    def _opened(self) -> Connection:
        with database.errors():
            connection = self._engine.connect()
            try:
                self._take(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def _drop(self) -> None:
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

    def _take(self, connection: Connection) -> None:
        name = "select set_config('application_name', :name, false)"
        database.rows(connection, name, name=self._owner[:63])
        shared = "_shared" if self._shared else ""
        sql = _TRY.format(shared=shared, namespace=_NAMESPACE)
        if database.one(connection, sql, place=self.place).locked:
            return
        holder = holder_of(connection, self.place)
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
