"""What table definitions are made of: columns that always carry a comment, and rules."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    LargeBinary,
    MetaData,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA = "archive"
metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    },
)


def column(name: str, kind: Any, *more: Any, comment: str, **options: Any) -> Column[Any]:
    """A column that must be filled and says what it holds."""
    options.setdefault("nullable", False)
    return Column(name, kind, *more, comment=comment, **options)


def identity() -> Column[Any]:
    """The primary key: a bigint that Postgres hands out."""
    return column(
        "id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the row"
    )


def time(name: str, comment: str, *, now: bool = False) -> Column[Any]:
    """A point in time with its zone; `now`: filled by the server."""
    default = {"server_default": text("now()")} if now else {"nullable": True}
    return column(name, DateTime(timezone=True), comment=comment, **default)


def document(name: str, comment: str) -> Column[Any]:
    """Open-ended JSON, `{}` unless given."""
    return column(name, JSONB, server_default=text("'{}'::jsonb"), comment=comment)


def count(name: str, comment: str) -> Column[Any]:
    """A number of things, 0 unless given."""
    return column(name, BigInteger, server_default=text("0"), comment=comment)


def flag(name: str, comment: str) -> Column[Any]:
    """True or false, false unless given."""
    return column(name, Boolean, server_default=text("false"), comment=comment)


def number(name: str, comment: str) -> Column[Any]:
    """A float64, null where unknown."""
    return column(name, Double, nullable=True, comment=comment)


def words(name: str, comment: str) -> Column[Any]:
    """A text, empty unless given."""
    return column(name, Text, server_default=text("''"), comment=comment)


def run(**options: Any) -> Column[Any]:
    """The run that a row belongs to."""
    return column("run_id", BigInteger, ForeignKey("archive.runs.id"), comment="Run", **options)


def body(name: str, comment: str) -> Column[Any]:
    """The content hash of a large object, null where there is none."""
    link = ForeignKey("archive.bodies.hash")
    return column(name, LargeBinary, link, nullable=True, comment=comment)


def one_of(column: str, values: Sequence[str] | type[StrEnum]) -> CheckConstraint:
    """A CHECK that a column holds one of the values."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} in ({listed})", name=column)


def finite(column: str) -> CheckConstraint:
    """A CHECK that a float is neither NaN nor infinite."""
    return CheckConstraint(f"{column} > '-Infinity' and {column} < 'Infinity'", name=column)
