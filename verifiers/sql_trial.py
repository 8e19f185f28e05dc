"""Queries of strangers in throwaway databases: run as a role that can only read, compared, timed.

What it stops: more than one statement (the extended protocol takes one), anything but a query (its
first word, a read-only role, read-only transactions, no temporary tables), settings, locks,
sleeping, files, dynamic SQL and random numbers (the functions are revoked), reading statistics or
the catalog (revoked as well), large results (rows are read one by one up to the reference's
number), endless or greedy queries (statement timeout, temporary file limit, the server's own
memory limit). Every timed query has a connection of its own and the same warm-up as the reference.

What it does not stop: a flaw in Postgres itself. The server therefore holds nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo

from eurekaflow.verifiers.problem import InvalidAnswer

ROLE = "eureka_answer"
TIMEOUT_MS = 2000.0
SETTINGS = {
    "statement_timeout": f"{TIMEOUT_MS:.0f}ms",
    "default_transaction_read_only": "on",
    "temp_file_limit": "64MB",
    "work_mem": "16MB",
    "lock_timeout": "1s",
    "jit": "off",  # compiling would be timed
    "max_parallel_workers_per_gather": "0",  # time is time of one core
    "search_path": "public",
}
LOCK = Path(__file__).resolve().parent / "sql_query_lock.sql"
MOST_ROWS = 1_000_000  # of a reference's result
PREPARE_LOCK, TIMING_LOCK = 7301, 7302  # advisory: one at a time on a server
TIMED_OUT = "57014"

Row = tuple[bytes | None, ...]


class ServerLost(BaseException):
    """The server went away; no answer is judged by that, so it passes every `except Exception`."""


@dataclass(frozen=True)
class Result:
    """What a query returned, in text form: exact, whatever the types."""

    columns: tuple[tuple[bytes | None, int], ...]  # name, type
    rows: list[Row]

    def differs(self, expected: Result, *, ordered: bool) -> str:
        """Why this is not the expected result; "" when it is. Duplicates count."""
        if self.columns != expected.columns:
            return f"columns {_named(self)}, expected {_named(expected)} (names, types and order)"
        if len(self.rows) != len(expected.rows):
            return f"{len(self.rows)} rows, expected {len(expected.rows)}"
        if ordered and self.rows != expected.rows:
            at = next(i for i, row in enumerate(self.rows) if row != expected.rows[i])
            return f"row {at} is not the expected one"
        missing = Counter(expected.rows) - Counter(self.rows)
        return f"{missing.total()} rows are not among the expected ones" if missing else ""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Runtimes in milliseconds, each query's in the order measured."""

    answer: list[float]
    reference: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.answer)

    @property
    def speedup(self) -> float:
        return statistics.median(self.reference) / self.median


class Databases:
    """The throwaway databases of one problem on one server: one for each script."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._expected: dict[tuple[str, str], Result] = {}

    def prepare(self, script: str) -> str:
        """The name of the database that `script` (schema and data) makes, made if absent.

        Raises psycopg.Error when the server cannot be had or the script fails.
        """
        key = hashlib.sha256((script + LOCK.read_text(encoding="utf-8")).encode()).hexdigest()
        name = f"eureka_sql_{key[:16]}"
        with self._locked(PREPARE_LOCK) as admin:
            _role(admin)
            known = admin.execute("select 1 from pg_database where datname = %s", [name])
            if known.fetchone() is None:
                self._make(admin, name, script)
        return name

    def expected(self, name: str, query: str, *, most: int) -> Result:
        """The reference's result, computed once."""
        key = (name, query)
        if key not in self._expected:
            self._expected[key] = self.result(name, query, most=most)
        return self._expected[key]

    def result(self, name: str, query: str, *, most: int) -> Result:
        """The result of a query on a fresh connection; refuses more than `most` rows."""
        with self._answering(name) as connection:
            return _read(connection, query, most)

    def time(self, name: str, query: str, reference: str, *, rounds: int, ordered: bool) -> Timing:
        """Runtimes of both queries in alternation, nobody else timing on this server.

        Every timed result is compared too: a query may not be right once and fast later.
        """
        expected = self.expected(name, reference, most=MOST_ROWS)
        times: dict[str, list[float]] = {"answer": [], "reference": []}
        pair = [("answer", query), ("reference", reference)]
        with self._locked(TIMING_LOCK):
            for turn in range(rounds):
                for which, text in pair if turn % 2 else pair[::-1]:
                    found, spent_ms = self._one_time(name, text)
                    times[which].append(spent_ms)
                    refuse(found, expected, ordered=ordered)
        return Timing(**times)

    def _one_time(self, name: str, query: str) -> tuple[Result, float]:
        with self._answering(name) as connection:
            _execute(connection, query)  # caches of the new connection are warm in both
            started = time.perf_counter()
            rows = _execute(connection, query)
            return _result(rows), 1000.0 * (time.perf_counter() - started)

    def _make(self, admin: psycopg.Connection, name: str, script: str) -> None:
        """Under another name first, so that a killed one is never taken for finished."""
        draft = sql.Identifier(f"{name}_new")
        admin.execute(sql.SQL("drop database if exists {} with (force)").format(draft))
        admin.execute(sql.SQL("create database {} template template0").format(draft))
        admin.execute(sql.SQL("revoke all on database {} from public").format(draft))
        grant = sql.SQL("grant connect on database {} to {}")
        admin.execute(grant.format(draft, sql.Identifier(ROLE)))
        with psycopg.connect(self._target(f"{name}_new"), autocommit=True) as own:
            own.execute(script.encode())
            own.execute(LOCK.read_text(encoding="utf-8").encode())
            own.execute(
                sql.SQL("grant select on all tables in schema public to {}").format(
                    sql.Identifier(ROLE)
                )
            )
            own.execute("vacuum analyze")
        admin.execute(
            sql.SQL("alter database {} rename to {}").format(draft, sql.Identifier(name))
        )

    @contextlib.contextmanager
    def _locked(self, number: int) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self._target("postgres"), autocommit=True) as admin:
            admin.execute("select pg_advisory_lock(%s)", [number])
            yield admin

    @contextlib.contextmanager
    def _answering(self, name: str) -> Iterator[pq.abc.PGconn]:
        """A fresh connection as the role that can only read. Raises ServerLost."""
        try:
            connection = psycopg.connect(self._target(name, user=ROLE), autocommit=True)
        except psycopg.OperationalError as error:
            raise ServerLost(str(error)) from error
        try:
            yield connection.pgconn
        finally:
            connection.close()

    def _target(self, name: str, *, user: str = "") -> str:
        named = {"user": user} if user else {}
        return make_conninfo(self._url, dbname=name, connect_timeout=10, **named)


def _role(admin: psycopg.Connection) -> None:
    """The role of answers, with its settings; both may exist already."""
    role = sql.Identifier(ROLE)
    if not admin.execute("select 1 from pg_roles where rolname = %s", [ROLE]).fetchone():
        admin.execute(sql.SQL("create role {} login").format(role))
        for name, value in SETTINGS.items():
            change = sql.SQL("alter role {} set {} = {}")
            admin.execute(change.format(role, sql.Identifier(name), sql.Literal(value)))


def refuse(found: Result, expected: Result, *, ordered: bool) -> None:
    """Raises InvalidAnswer unless both results are the same."""
    if reason := found.differs(expected, ordered=ordered):
        raise InvalidAnswer(f"another result: {reason}")


def _execute(connection: pq.abc.PGconn, query: str) -> pq.abc.PGresult:
    done = connection.exec_params(query.encode(), None)
    _checked(connection, done)
    return done


def _result(part: pq.abc.PGresult) -> Result:
    columns = tuple((part.fname(i), part.ftype(i)) for i in range(part.nfields))
    return Result(columns, [_row(part, i) for i in range(part.ntuples)])


def _read(connection: pq.abc.PGconn, query: str, most: int) -> Result:
    """The rows one by one, so that a large result is refused before it fills the memory."""
    connection.send_query_params(query.encode(), None)
    connection.set_single_row_mode()
    rows: list[Row] = []
    columns: tuple[tuple[bytes | None, int], ...] = ()
    while (part := connection.get_result()) is not None:
        _checked(connection, part)
        piece = _result(part)
        columns = piece.columns
        rows += piece.rows
        if len(rows) > most:
            raise InvalidAnswer(f"the query returns more than the {most} rows expected")
    return Result(columns, rows)


def _row(part: pq.abc.PGresult, index: int) -> Row:
    return tuple(part.get_value(index, column) for column in range(part.nfields))


def _checked(connection: pq.abc.PGconn, result: pq.abc.PGresult) -> None:
    """Raises InvalidAnswer with the server's reason, ServerLost when there is none."""
    if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.SINGLE_TUPLE):
        return
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    if state is None or connection.status == pq.ConnStatus.BAD:
        raise ServerLost((result.error_message or b"").decode(errors="replace"))
    if state.decode() == TIMED_OUT:
        raise InvalidAnswer(f"the query was ended after {TIMEOUT_MS:g} ms")
    said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"no rows to return"
    raise InvalidAnswer(f"the query fails: {said.decode(errors='replace')}")


def _named(result: Result) -> str:
    return ", ".join((name or b"?").decode(errors="replace") for name, _ in result.columns[:12])


def first_word(text: str) -> str:
    """The first word of a statement behind comments and opening parentheses, in lower case."""
    rest = text.lstrip(" \t\r\n\f(")
    while rest.startswith(("--", "/*")):
        line = rest.startswith("--")
        rest = rest.partition("\n")[2] if line else _behind_comment(rest)
        rest = rest.lstrip(" \t\r\n\f(")
    word = ""
    for letter in rest:
        if not (letter.isascii() and letter.isalpha()):
            break
        word += letter.lower()
    return word


def _behind_comment(text: str) -> str:
    """What follows a block comment; Postgres nests them."""
    depth, at = 1, 2
    while at < len(text) and depth:
        pair = text[at : at + 2]
        depth += (pair == "/*") - (pair == "*/")
        at += 2 if pair in ("/*", "*/") else 1
    return text[at:]
