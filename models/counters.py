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
    seeds = row_seeds(run_seed=run_seed, step=step, group=group, attempts=attempts)
    return from_seeds(seeds, np.full(len(attempts), position))


def row_seeds(
    *, run_seed: int, step: int, group: int, attempts: Sequence[int]
) -> npt.NDArray[np.int64]:
    """All counters but the position, mixed: what a device needs of a row, int64 [R]."""
    state = np.zeros(len(attempts), dtype=np.uint64)
    counters: list[int | Sequence[int]] = [run_seed, step, group, attempts]
    for counter in counters:
        state = _with(state, np.asarray(counter, dtype=np.int64))
    return state.view(np.int64)


def from_seeds(
    seeds: npt.NDArray[np.int64], positions: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """The uniforms of rows at their positions, float64 [R]."""
    state = _with(seeds.view(np.uint64), positions)
    return ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _with(state: npt.NDArray[np.uint64], counter: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        return _mixed((state ^ counter.astype(np.uint64)) + _GOLDEN)


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))
