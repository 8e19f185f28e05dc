"""A batch of tokens in each of its forms: one flat array, rows of equal length, or sequences.

The maths works on tokens laid one after the other. What is ambiguous is refused rather than
broadcast: all fields hold the same sequences, and an advantage is a sequence's or a token's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Flat = npt.NDArray[Any] | Sequence[float]  # [T], or an array [B, T]
Nested = Sequence[Sequence[float] | npt.NDArray[Any]]  # B sequences of any lengths
Tokens = Flat | Nested
Advantage = float | Flat | Sequence[float | Sequence[float] | npt.NDArray[Any]]


class Layout(NamedTuple):
    """How tokens were given."""

    form: Literal["flat", "rows", "sequences"]
    lengths: tuple[int, ...]  # tokens of each sequence; a flat batch is one

    def restore(self, flat: Float64) -> Float64 | list[Float64]:
        """One number a token, in the form that the tokens had."""
        if self.form == "flat":
            return flat
        parts = np.split(flat, np.cumsum(self.lengths)[:-1]) if self.lengths else []
        return parts if self.form == "sequences" else np.array(parts)


def flatten(**fields: Tokens) -> tuple[list[Float64], Layout]:
    """Each field as float64 [T], and the layout of the first.

    Raises ValueError unless all fields hold the same sequences.
    """
    read = {name: _read(name, given) for name, given in fields.items()}
    first, (_, layout) = next(iter(read.items()))
    for name, (_, found) in read.items():
        if found.lengths != layout.lengths:
            raise ValueError(
                f"{first} holds sequences of {list(layout.lengths)} tokens, "
                f"{name} of {list(found.lengths)}"
            )
    return [flat for flat, _ in read.values()], layout


def spread(advantage: Advantage, layout: Layout) -> Float64:
    """The advantage of each token, float64 [T], from one number for all, a sequence or a token.

    Raises ValueError for any other shape.
    """
    shares: list[Any] = [advantage]
    if layout.form != "flat":
        alone = np.isscalar(advantage)
        shares = [advantage] * len(layout.lengths) if alone else list(advantage)  # type: ignore[arg-type]
    parts = [np.asarray(share, dtype=np.float64) for share in shares]
    fits = len(parts) == len(layout.lengths) and all(
        part.shape in ((), (length,)) for part, length in zip(parts, layout.lengths, strict=True)
    )
    if not fits:
        raise ValueError(
            f"advantage has the shapes {[part.shape for part in parts]} for sequences of "
            f"{list(layout.lengths)} tokens: give one number a sequence, or one a token"
        )
    each = zip(parts, layout.lengths, strict=True)
    return np.concatenate([np.zeros(0), *(np.broadcast_to(part, n) for part, n in each)])


def _read(name: str, given: Tokens) -> tuple[Float64, Layout]:
    try:
        whole = np.asarray(given, dtype=np.float64)
    except ValueError:  # of different lengths
        whole = np.zeros((0, 0))
    form: Literal["flat", "rows", "sequences"] = "flat"
    parts = [whole]
    if whole.ndim == 2:
        stacked = isinstance(given, np.ndarray) and given.dtype != object
        form = "rows" if stacked else "sequences"
        parts = [np.asarray(part, dtype=np.float64) for part in given]
    if any(part.ndim != 1 for part in parts):
        raise ValueError(f"{name} is neither one row of tokens nor sequences of them")
    flat = np.concatenate([np.zeros(0), *parts])
    return flat, Layout(form, tuple(len(part) for part in parts))
