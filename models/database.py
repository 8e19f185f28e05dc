"""One archive's connections: a small pool, translated errors, and transactions behind the fence.

Contract: every method of the archive may be called from any thread; each call is one transaction
on a pooled connection; nothing is cached. A database that cannot be reached, is full or goes away
raises ArchiveUnavailable with Postgres' own reason, and the caller may retry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import psycopg
from sqlalchemy import Connection, NullPool, Row, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError

from eurekaflow.models import arrays
from eurekaflow.models.errors import ArchiveUnavailable, FencedOut

FIX = "eureka doctor"


class Fence(Protocol):
    """Who writes: the run and the owner's epoch."""

    @property
    def run_id(self) -> int: ...

    @property
    def epoch(self) -> int: ...


class Database:
    """The pooled connections behind an archive."""

    def __init__(self, url: str, *, pool_size: int = 4) -> None:
        self.url = url
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
        with errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _write(self, hold: Fence) -> Iterator[Connection]:
        """A transaction that only the run's owner can make; others get FencedOut."""
        with errors(), self._engine.begin() as connection:
            check_fence(connection, hold)
            yield connection


@contextmanager
def errors() -> Iterator[None]:
    """Database trouble as ArchiveUnavailable; constraint violations pass as they are."""
    try:
        yield
    except (OperationalError, InterfaceError, TimeoutError) as error:
        raise ArchiveUnavailable(_reason(error), FIX) from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise ArchiveUnavailable(_reason(error), FIX) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise ArchiveUnavailable(f"the archive did not answer: {error}".strip(), FIX) from error


def check_fence(connection: Connection, hold: Fence) -> None:
    """Lock the run's row and raise FencedOut unless the epoch is still the owner's."""
    found = connection.execute(
        text("select epoch, lease_owner from archive.runs where id = :run for update"),
        {"run": hold.run_id},
    ).one()
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


def _reason(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return f"the archive did not answer: {str(cause).strip()}"
