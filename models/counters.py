"""Counter-based uniforms: the randomness behind a token, without any generator state.

A row's uniform does not depend on which other rows are sampled with it, nor on when.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def uniforms(
    *, run_seed: int, step: int, group: int, attempts: Sequence[int], position: int
) -> npt.NDArray[np.float64]:
    """One uniform in (0, 1) per attempt, float64 [R].

    SplitMix64's finaliser over each counter in turn (Steele, Lea and Flood 2014), so that nearby
    counters give unrelated values. Counters are taken modulo 2**64; step -1 is allowed.
    """
    state = np.zeros(len(attempts), dtype=np.uint64)
    counters: list[int | Sequence[int]] = [run_seed, step, group, attempts, position]
    with np.errstate(over="ignore"):
        for counter in counters:
            word = np.asarray(counter, dtype=np.int64).astype(np.uint64)
            state = _mixed((state ^ word) + _GOLDEN)
    return ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))
