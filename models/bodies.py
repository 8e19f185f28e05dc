"""Large contents of the archive: put once under their hash, read back as they were."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from sqlalchemy import Connection

from eurekaflow.models import arrays, database
from eurekaflow.models.database import Database
from eurekaflow.models.rows import Construction
from eurekaflow.models.text import escape, unescape

_PUT = """
    insert into archive.bodies as b (hash, kind, content, numbers, program)
    values (:hash, :kind, :content, :numbers, :program)
    on conflict (hash) do update set content = excluded.content, numbers = excluded.numbers,
        program = b.program or excluded.program, pruned_at = null
        where b.pruned_at is not null or (excluded.program and not b.program)"""
_NUMBERS = """
    select b.numbers from archive.attempts a join archive.bodies b on b.hash = a.construction_hash
    where a.id = %s and b.pruned_at is null"""


class Contents:
    """Bodies collected for one transaction, written together in hash order (no deadlocks)."""

    def __init__(self) -> None:
        self._rows: dict[bytes, dict[str, Any]] = {}

    def text(self, text: str | None, *, program: bool = False) -> bytes | None:
        """The hash under which `text` will be stored; None for no text."""
        if not text:
            return None
        stored = escape(text)
        key = arrays.text_hash(stored)
        row = _row(key, "text", content=stored)
        row["program"] = program or self._rows.get(key, row)["program"]
        self._rows[key] = row
        return key

    def program(self, text: str | None) -> bytes | None:
        """Like `text`, for a program: one that text search finds."""
        return self.text(text, program=True)

    def construction(self, array: Construction | None) -> bytes | None:
        """The hash under which a construction will be stored; None for none."""
        if array is None or array.size == 0:
            return None
        exact = np.ascontiguousarray(array, dtype=np.float64)
        key = arrays.array_hash(exact)
        self._rows[key] = _row(key, "construction", numbers=exact)
        return key

    def write(self, connection: Connection) -> None:
        """Insert what is not there yet."""
        database.many(connection, _PUT, [self._rows[key] for key in sorted(self._rows)])


def _row(
    key: bytes, kind: str, *, content: str | None = None, numbers: Construction | None = None
) -> dict[str, Any]:
    return {"hash": key, "kind": kind, "content": content, "numbers": numbers, "program": False}


def read_texts(connection: Connection, hashes: Iterable[bytes | None]) -> dict[bytes, str]:
    """Texts by hash."""
    wanted = sorted({key for key in hashes if key is not None})
    sql = "select hash, content from archive.bodies where hash = any(:hashes)"
    found = database.rows(connection, sql, hashes=wanted) if wanted else []
    return {bytes(row.hash): unescape(row.content) for row in found}


class Bodies(Database):
    """Reading the large contents of attempts."""

    @database.repeated
    def construction(self, attempt_id: int) -> Construction | None:
        """The attempt's construction, float64, 1-D or 2-D; None when it has none."""
        with self._read() as connection:
            found = database.binary_rows(connection, _NUMBERS, (attempt_id,))
        return found[0][0] if found else None

    def program(self, attempt_id: int) -> str | None:
        """The attempt's program; None when it has none."""
        return self._text(attempt_id, "program_hash")

    def response(self, attempt_id: int) -> str | None:
        """The attempt's response; None while it is not sampled."""
        return self._text(attempt_id, "response_hash")

    def stdout(self, attempt_id: int) -> str | None:
        """The tail of the attempt's standard output; None when it has none."""
        return self._text(attempt_id, "stdout_hash")

    @database.repeated
    def _text(self, attempt_id: int, column: str) -> str | None:
        sql = f"""select b.content from archive.attempts a
            join archive.bodies b on b.hash = a.{column}
            where a.id = :id and b.pruned_at is null"""
        with self._read() as connection:
            row = database.first(connection, sql, id=attempt_id)
        return None if row is None else unescape(row.content)
