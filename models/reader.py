"""Asking as the reader: a session that sees the public views alone, writes nothing, ends in time.

What it stops: reading tables, files and other databases' contents, writing, changing role,
statements that last too long. On a server reached through its socket the session logs in as the
role itself, so that nothing a statement does can lead back to a stronger one. On a server of the
user's own reached over TCP, where the role has no password, the URL's user takes the role on:
there a statement may undo it, and is bounded by what that user may do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from eurekaflow.models.errors import ArchiveUnavailable, UsageError

READER = "eureka_reader"
Params = Mapping[str, Any] | Sequence[Any] | None
_GONE = ("08", "53", "57", "58")  # connection, resources, operator, system: not the statement
_MEMBER = "select pg_has_role(oid, 'member') from pg_roles where rolname = %s"


def reader_url(url: str) -> str:
    """`url` with the reader as its user and without the password, which is not the reader's."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{READER}@{place}"))


def client_settings(url: str) -> tuple[dict[str, str], str]:
    """How another program logs in as the reader: libpq's settings, and options for the server."""
    own = _over_socket(url)
    found = conninfo_to_dict(reader_url(url) if own else url)
    settings = {name: str(value) for name, value in found.items() if value}
    return settings, "" if own else f"-c role={READER}"


def query(
    url: str, sql: str, params: Params = None, *, timeout_s: float = 30, as_reader: bool = True
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows of one statement; `params` as in psycopg (%s, %(name)s).

    Raises UsageError with Postgres' message for a statement that is wrong, writes or takes longer
    than `timeout_s`, ArchiveUnavailable when the server does not answer.
    """
    with session(url, timeout_s=timeout_s, as_reader=as_reader) as connection:
        try:
            # Prepared: one statement only, so that none after the first can undo the limits.
            cursor = connection.execute(sql.encode(), params, prepare=True)
            names = [column.name for column in cursor.description or ()]
            return names, cursor.fetchall() if names else []
        except psycopg.errors.QueryCanceled as error:
            raise UsageError(
                f"the query took longer than {timeout_s:g} s", "narrow it, or raise --timeout"
            ) from error
        except psycopg.Error as error:
            gone = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
            if gone and (error.sqlstate or _GONE[0])[:2] in _GONE:
                raise ArchiveUnavailable.because(error) from error
            raise UsageError(f"the query failed: {str(error).strip()}") from error


@contextmanager
def session(
    url: str, *, timeout_s: float, as_reader: bool = True
) -> Iterator[psycopg.Connection[Any]]:
    """A read-only transaction of the reader, at one snapshot, rolled back at the end.

    `timeout_s` bounds each statement, 0 none. Raises ArchiveUnavailable.
    """
    milliseconds = 0 if timeout_s <= 0 else max(1, round(timeout_s * 1000))
    limits = f"-c statement_timeout={milliseconds} -c default_transaction_read_only=on"
    own = as_reader and _over_socket(url)
    try:
        with _connect(url, own, limits) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            if as_reader and connection.info.user != READER:
                _take_role(connection)
            yield connection
            connection.rollback()
    except psycopg.OperationalError as error:
        raise ArchiveUnavailable.because(error) from error


def _connect(url: str, own: bool, limits: str) -> psycopg.Connection[Any]:
    if own:
        try:
            return psycopg.connect(reader_url(url), options=limits)
        except psycopg.OperationalError as error:
            if "server on socket" in str(error) and "FATAL" not in str(error):
                raise  # nobody answers: asking as somebody else would not help
    return psycopg.connect(url, options=limits)


def _take_role(connection: psycopg.Connection[Any]) -> None:
    known = connection.execute(_MEMBER, [READER]).fetchone()
    if known is not None and known[0]:
        connection.execute(f"set local role {READER}".encode())


def _over_socket(url: str) -> bool:
    return str(conninfo_to_dict(url).get("host", "")).startswith("/")
