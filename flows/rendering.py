"""How results are printed: tables for people, JSON and CSV for programs. Data goes to stdout."""

from __future__ import annotations

import datetime
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

PIPE_WIDTH = 200  # columns of a table that does not go to a terminal
_SIZES = ("B", "kB", "MB", "GB", "TB")


def print_json(value: object) -> None:
    """One JSON document on stdout; NaN and infinities become null."""
    print(json.dumps(plain(value), ensure_ascii=False, indent=2))


def plain(value: object) -> object:
    """`value` in JSON's types: times as ISO text, what JSON has no number for as null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    return str(value)


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A header line and one line per row on stdout; null is an empty field."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    empty: str = "nothing yet",
) -> None:
    """A table for people on stdout, as wide as the terminal, or wide enough for a pipe."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    found = list(rows)
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else PIPE_WIDTH, highlight=False)
    if not found:
        print(empty, file=sys.stderr)
        return
    table = Table(title=escape(title) or None, box=box.SIMPLE_HEAD, title_justify="left")
    for index, name in enumerate(columns):
        right = all(isinstance(row[index], int | float | Decimal | None) for row in found)
        table.add_column(escape(name), justify="right" if right else "left", overflow="fold")
    for row in found:
        table.add_row(*(escape(text(value)) for value in row))
    console.print(table)


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values on stdout, one pair a line, values aligned."""
    found = [(name, text(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in found), default=0)
    for name, value in found:
        print(f"{name:<{width}}  {value}")


def text(value: object) -> str:
    """A cell: numbers readable, times local and to the second, no control characters."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float | Decimal):
        return number(float(value))
    if isinstance(value, datetime.datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
    return printable(json.dumps(plain(value)) if isinstance(value, dict | list) else str(value))


def printable(value: str) -> str:
    """Text that cannot steer a terminal: control characters other than newline and tab go."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in value)


def number(value: float) -> str:
    """Seven significant digits: enough to tell records apart, short enough to read."""
    if not math.isfinite(value):
        return str(value)
    if value and (abs(value) >= 1e9 or abs(value) < 1e-4):
        return f"{value:.3e}"
    return f"{value:,.7g}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Bytes in decimal units."""
    amount, unit = float(count), 0
    while amount >= 1000 and unit < len(_SIZES) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} B" if unit == 0 else f"{amount:.1f} {_SIZES[unit]}"


def records(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows as mappings, for JSON."""
    return [dict(zip(columns, row, strict=True)) for row in rows]
