"""Published scores, and our own measured ones, that a problem's values stand beside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Record:
    """A published result, or one that we measured ourselves."""

    holder: str
    score: float
    kind: Literal["human", "ai", "claim", "ours"]  # claim: published but not confirmed
    source: str
    role: Literal["human", "previous AI", "TTT-Discover", "newest", ""] = ""  # why it is listed
    mode: str = ""  # how its holder measured it: arithmetic, tolerance, sizes


def best_of(records: Sequence[Record], *, direction: str) -> Record | None:
    """The best of the confirmed records of others."""
    known = [r for r in records if r.kind not in ("claim", "ours") and math.isfinite(r.score)]
    return max(known, key=lambda r: -r.score if direction == "min" else r.score, default=None)
