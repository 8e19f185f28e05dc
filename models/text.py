"""Reversible escaping: any Python string or bytes as text that Postgres accepts.

Postgres text holds neither NUL nor surrogates. Each such character becomes BACKSLASH + "u{hex}";
a backslash that already stands before "u{" is doubled with a marker of its own, so that the
mapping is injective and every other text is stored as it reads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_FORBIDDEN = re.compile(r"[\x00\ud800-\udfff]|\\(?=u\{)")
_ESCAPED = re.compile(r"\\u\{([0-9a-f]+)\}")


def escape(text: str) -> str:
    """`text` with NUL, surrogates and look-alike escapes written as `\\u{hex}`; injective."""
    return _FORBIDDEN.sub(lambda match: f"\\u{{{ord(match.group()):x}}}", text)


def unescape(stored: str) -> str:
    """The text that `escape` was given."""
    return _ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), stored)


def from_bytes(data: bytes) -> str:
    """Bytes as a string that keeps invalid UTF-8 as surrogates; `to_bytes` reverses it."""
    return data.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The bytes that `from_bytes` was given."""
    return text.encode("utf-8", "surrogateescape")


def plain_json(value: Any) -> Any:
    """`value` as JSON that jsonb accepts: escaped strings, None for NaN and infinities."""
    if isinstance(value, str):
        return escape(value)
    if hasattr(value, "item"):  # numpy's scalars
        return plain_json(value.item())
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return {escape(str(key)): plain_json(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain_json(item) for item in value]
    number = float(value)
    return number if math.isfinite(number) else None
