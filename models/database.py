"""One archive's connections: a small pool, translated errors, and transactions behind the fence.

Contract: every method of the archive may be called from any thread; each call is one transaction
on a pooled connection; nothing is cached. A database that cannot be reached, is full or goes away
raises ArchiveUnavailable with Postgres' own reason, and the caller may retry. An archive opened
with patience does so itself where that can help: writes marked `repeated` are done again after a
lost connection, a server restart, a deadlock or a serialization failure.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

import psycopg
from sqlalchemy import Connection, NullPool, Row, create_engine, event, text
from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError

from eurekaflow.models import arrays
from eurekaflow.models.errors import (
    ArchiveInterrupted,
    ArchiveUnavailable,
    FencedOut,
    interruption,
)
from eurekaflow.models.faultpoints import reach

WRITING = 0x65757266 << 32  # plus the run: the advisory lock that its owner's transactions share
FIRST_DELAY_S, LONGEST_DELAY_S = 0.05, 2.0
# SQLSTATE classes and codes after which the same transaction may succeed: connection,
# serialization and deadlock, the server going down or coming up, idle in transaction.
_PASSING = ("08", "40", "57P01", "57P02", "57P03", "57P05", "25P03")

_FENCE = """
    select epoch, lease_owner, pg_advisory_xact_lock_shared(:key + id)
    from archive.runs where id = :run for update"""

TROUBLE = (
    OperationalError, InterfaceError, TimeoutError,
    psycopg.OperationalError, psycopg.InterfaceError,
)  # fmt: skip

R = TypeVar("R")
Method = TypeVar("Method", bound=Callable[..., Any])


class Fence(Protocol):
    """Who writes: the run and the owner's epoch."""

    @property
    def run_id(self) -> int: ...

    @property
    def epoch(self) -> int: ...


class Database:
    """The pooled connections behind an archive."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 4,
        patience_s: float = 0.0,
        revive: Callable[[], object] = lambda: None,
    ) -> None:
        """`patience_s` bounds how long a call outlasts interruptions before it raises.

        `revive` is called between two tries: who owns the server may start it again.
        """
        self.url = url
        self.patience_s = patience_s
        self.revive = revive
        self._engine = create_engine(
            url, pool_size=pool_size, max_overflow=0, pool_timeout=300, pool_pre_ping=True
        )
        self._single = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        for engine in (self._engine, self._single):
            event.listen(engine, "connect", _teach)

    def close(self) -> None:
        """Close the pool; holds keep their own connection until released."""
        self._engine.dispose()

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with errors(), self._outlast(self._connect) as connection, connection.begin():
            yield connection

    def _connect(self) -> Connection:
        with errors():
            return self._engine.connect()

    def _outlast(self, call: Callable[[], R]) -> R:
        """The call's result, repeated with growing pauses while it is interrupted."""
        deadline, delay = time.monotonic() + self.patience_s, FIRST_DELAY_S
        while True:
            try:
                return call()
            except ArchiveInterrupted:
                if time.monotonic() + delay > deadline:
                    raise
            self.revive()
            time.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY_S)

    @contextmanager
    def _write(self, hold: Fence, name: str) -> Iterator[Connection]:
        """A transaction that only the run's owner can make; others get FencedOut.

        `name` is the method's, for the points around the commit.
        """
        with errors(), self._engine.begin() as connection:
            check_fence(connection, hold)
            yield connection
            reach(f"{name}.before_commit")
        reach(f"{name}.after_commit")

    def confirm(self, hold: Fence) -> None:
        """Raise FencedOut unless the run is still the hold's: asked before files are touched."""

        def ask() -> None:
            with self._read() as connection:
                check_fence(connection, hold)

        self._outlast(ask)


def repeated(method: Method) -> Method:
    """Decorator: a call is repeated while it is interrupted and the archive has patience.

    For methods that are one transaction and change nothing when repeated: after a connection lost
    during the commit nobody knows whether it happened.
    """

    @functools.wraps(method)
    def call(self: Database, *args: Any, **kwargs: Any) -> Any:
        return self._outlast(lambda: method(self, *args, **kwargs))

    return cast("Method", call)


@contextmanager
def errors() -> Iterator[None]:
    """Database trouble as ArchiveUnavailable; constraint violations pass as they are.

    A signal that arrives while a driver waits leaves a connection which its cleaning up then
    stumbles over: it is the signal that is raised, not the stumbling.
    """
    handled = sys.exception()
    try:
        yield
    except Exception as error:
        if (signal := interruption(error, handled)) is not None:
            raise signal from None
        if isinstance(error, TROUBLE) or getattr(error, "connection_invalidated", False):
            raise _trouble(error) from error
        raise


def _trouble(error: Exception) -> ArchiveUnavailable:
    """The error to raise; without a code of the server's the connection itself failed."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    passing = state.startswith(_PASSING) if state else not isinstance(error, TimeoutError)
    kind = ArchiveInterrupted if passing else ArchiveUnavailable
    return kind.because(cause)


def check_fence(connection: Connection, hold: Fence) -> None:
    """Lock the run's row and raise FencedOut unless the epoch is still the owner's."""
    found = connection.execute(text(_FENCE), {"run": hold.run_id, "key": WRITING}).one()
    if found.epoch != hold.epoch:
        raise FencedOut(
            f"run {hold.run_id} is now owned by {found.lease_owner or 'nobody'} "
            f"(epoch {found.epoch}, ours was {hold.epoch}); nothing was written",
            "let the other process finish, or resume the run after it ended",
        )


def binary_rows(
    connection: Connection, sql: str, values: Mapping[str, Any] | Sequence[Any]
) -> list[tuple[Any, ...]]:
    """Rows of a psycopg statement with arrays as ndarrays, in the connection's transaction."""
    raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    with raw.cursor(binary=True) as cursor:
        return cursor.execute(sql, values).fetchall()


def one(connection: Connection, sql: str, **values: Any) -> Row[Any]:
    """The single row of a statement."""
    return connection.execute(text(sql), values).one()


def first(connection: Connection, sql: str, **values: Any) -> Row[Any] | None:
    """The first row of a statement, or None."""
    return connection.execute(text(sql), values).first()


def rows(connection: Connection, sql: str, **values: Any) -> Sequence[Row[Any]]:
    """All rows of a statement."""
    return connection.execute(text(sql), values).all()


def run(connection: Connection, sql: str, **values: Any) -> int:
    """Execute a statement; the number of rows it touched."""
    return connection.execute(text(sql), values).rowcount


def many(connection: Connection, sql: str, values: Sequence[Mapping[str, Any]]) -> None:
    """Execute a statement once per mapping, pipelined; nothing happens for an empty list."""
    if values:
        connection.execute(text(sql), [dict(value) for value in values])


def _teach(connection: Any, _record: object) -> None:
    arrays.register(connection)
