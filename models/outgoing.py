"""A run's rows on their way out: which views are exported, and how they are streamed.

One transaction at one snapshot as the reader; a server-side cursor, so that memory holds a batch
of rows and never a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from eurekaflow.models import reader
from eurekaflow.models.errors import UsageError

# view -> (order, key in the exported form); every one has run_id
EXPORTED: dict[str, tuple[str, ...]] = {
    "runs": ("run_id",),
    "steps": ("run_id", "step"),
    "groups": ("run_id", "step", "group_index"),
    "attempts": ("attempt",),
    "attempt_bodies": ("attempt",),
    "best_attempts": ("attempt",),
    "lineage": ("attempt", "generation"),
    "tree": ("attempt",),
    "run_progress": ("run_id", "step"),
    "reward_distribution": ("run_id", "step"),
    "failures": ("run_id", "step", "outcome", "message"),
    "spend": ("run_id", "step", "stage"),
    "claims": ("claim",),
    "prunings": (),
}
BATCH = 2000  # rows held at a time
LARGE_BATCH = 100  # of rows with texts
_KIND = {
    16: "bool",
    20: "int",
    21: "int",
    23: "int",
    700: "float",
    701: "float",
    1700: "float",
    1184: "time",
    1016: "ints",
}


@dataclass(frozen=True)
class Column:
    """A column of a view; `kind` is bool, int, float, time, ints or text."""

    name: str
    kind: str


@dataclass(frozen=True)
class Rows:
    """One view's columns, and its rows in batches; the batches can be walked once."""

    view: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    batches: Iterator[list[tuple[Any, ...]]]


@contextmanager
def outgoing(url: str, run_id: int, views: tuple[str, ...]) -> Iterator[Iterator[Rows]]:
    """The rows of a run, view after view. Raises UsageError, ArchiveUnavailable."""
    if unknown := sorted(set(views) - EXPORTED.keys()):
        raise UsageError(
            f"no view {', '.join(unknown)} to export", f"choose of {', '.join(EXPORTED)}"
        )
    with reader.session(url, timeout_s=0) as connection:
        yield (_rows(connection, run_id, view) for view in views)


def _rows(connection: psycopg.Connection[Any], run_id: int, view: str) -> Rows:
    key = EXPORTED[view]
    order = sql.SQL(" order by {}").format(sql.SQL(", ").join(map(sql.Identifier, key)))
    ask = sql.SQL("select * from {} where run_id = %s{}").format(
        sql.Identifier(view), order if key and view != "lineage" else sql.SQL("")
    )
    cursor = connection.cursor(f"export_{view}")
    cursor.execute(ask, [run_id])
    columns = tuple(
        Column(found.name, _KIND.get(found.type_code, "text"))
        for found in cursor.description or ()
    )
    size = LARGE_BATCH if view == "attempt_bodies" else BATCH
    return Rows(view, columns, key, _batches(cursor, size))


def _batches(cursor: psycopg.ServerCursor[Any], size: int) -> Iterator[list[tuple[Any, ...]]]:
    with cursor:
        while rows := cursor.fetchmany(size):
            yield rows
