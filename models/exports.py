"""The files of an export: streamed in batches, under a draft's name until they are complete."""

from __future__ import annotations

import csv
import datetime
import json
import math
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from eurekaflow.models.errors import PrerequisiteMissing, UsageError
from eurekaflow.models.outgoing import Rows

Writer = Callable[[Rows], int]  # writes one view's rows; how many there were
_SQLITE = {"bool": "integer", "int": "integer", "float": "real"}


@contextmanager
def writer(form: str, target: Path) -> Iterator[Writer]:
    """What writes views to `target`, which appears when everything is written, or not at all.

    `form` is parquet, csv, jsonl or sqlite. Raises PrerequisiteMissing (no pyarrow, disk full)
    and UsageError (the folder cannot be written).
    """
    one = {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl}.get(form)
    if form == "parquet":
        _arrow()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error}", "choose another --out") from None
    try:
        if one is None:
            with closing(_database(draft / "file")) as database:
                yield lambda rows: _sqlite(database, rows)
                _finish(database)
            (draft / "file").rename(target)
        else:
            yield lambda rows: one(rows, draft / f"{rows.view}.{form}")
            draft.chmod(0o755)
            draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _csv(rows: Rows, path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(column.name for column in rows.columns)
        for batch in rows.batches:
            table.writerows([_flat(value) for value in row] for row in batch)
            count += len(batch)
    return count


def _jsonl(rows: Rows, path: Path) -> int:
    count = 0
    names = [column.name for column in rows.columns]
    with path.open("w", encoding="utf-8") as file:
        for batch in rows.batches:
            for row in batch:
                fields = dict(zip(names, map(_plain, row), strict=True))
                file.write(json.dumps(fields, ensure_ascii=False, default=str) + "\n")
            count += len(batch)
    return count


def _arrow() -> Any:
    """pyarrow with its parquet module. Raises PrerequisiteMissing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise PrerequisiteMissing(
            "parquet files are written by pyarrow, which is not installed",
            "pip install 'eurekaflow[export]', or choose --format csv, jsonl or sqlite",
        ) from None
    return pyarrow


def _parquet(rows: Rows, path: Path) -> int:
    pa = _arrow()
    kinds = {
        "bool": pa.bool_(),
        "int": pa.int64(),
        "float": pa.float64(),
        "time": pa.timestamp("us", tz="UTC"),
        "ints": pa.list_(pa.int64()),
        "text": pa.string(),
    }
    schema = pa.schema([(column.name, kinds[column.kind]) for column in rows.columns])
    count = 0
    with pa.parquet.ParquetWriter(path, schema, compression="zstd") as file:
        for batch in rows.batches:
            columns = zip(*batch, strict=True)
            arrays = [
                pa.array(_typed(values, column.kind), kinds[column.kind])
                for values, column in zip(columns, rows.columns, strict=True)
            ]
            file.write_batch(pa.record_batch(arrays, schema=schema))
            count += len(batch)
    return count


def _typed(values: tuple[Any, ...], kind: str) -> list[Any]:
    if kind == "text":
        return [_flat(value) for value in values]
    if kind == "float":
        return [None if value is None else float(value) for value in values]
    return list(values)


def _database(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    for pragma in ("journal_mode = off", "synchronous = off"):  # a draft: complete or thrown away
        database.execute(f"pragma {pragma}")
    return database


def _sqlite(database: sqlite3.Connection, rows: Rows) -> int:
    """A table with a primary key where the view has one, and links that Datasette follows."""
    columns = [f'"{c.name}" {_SQLITE.get(c.kind, "text")}' for c in rows.columns]
    if rows.key:
        columns.append("primary key ({})".format(", ".join(f'"{name}"' for name in rows.key)))
    columns += _links(rows)
    database.execute(f'create table "{rows.view}" ({", ".join(columns)})')
    marks = ", ".join("?" * len(rows.columns))
    count = 0
    for batch in rows.batches:
        values = [[_cell(value) for value in row] for row in batch]
        database.executemany(f'insert into "{rows.view}" values ({marks})', values)
        count += len(batch)
    return count


def _links(rows: Rows) -> list[str]:
    names = {column.name for column in rows.columns}
    wanted = {"parent": "attempts", "ancestor": "attempts", "attempt": "attempts"}
    wanted |= {"best_attempt": "attempts", "example": "attempts"}
    return [
        f'foreign key ("{name}") references "{table}" (attempt)'
        for name, table in wanted.items()
        if name in names and not (rows.view == "attempts" and name == "attempt")
    ]


def _finish(database: sqlite3.Connection) -> None:
    tables = {row[0] for row in database.execute("select name from sqlite_master")}
    if "attempts" in tables:
        for column in ("parent", "step", "outcome", "value"):
            database.execute(f"create index attempts_{column} on attempts ({column})")
    database.commit()


def _plain(value: Any) -> Any:
    """A value in JSON's types; NaN and infinities as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value


def _flat(value: Any) -> Any:
    """A value as one text or number: arrays and documents as JSON, hashes in hex."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    if value is None or isinstance(value, str | int | float):
        return value
    found = _plain(value)
    return found if isinstance(found, str | int | float) else str(found)


def _cell(value: Any) -> Any:
    """`_flat`, and integers SQLite has no room for as text."""
    found = _flat(value)
    return str(found) if isinstance(found, int) and abs(found) >= 2**63 else found
