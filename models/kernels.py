"""The numeric kernels of sampling: counter-based uniforms and the block inverse-CDF sampler.

A token is drawn by inverting the distribution function at a uniform that is a pure function of
(run seed, step, group, attempt, position): no generator state exists, and a row's randomness does
not depend on which other rows are sampled with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BLOCK = 512  # vocabulary entries summed together
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


def draw(logits: Tensor, uniform: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Sample one token per row; overwrites `logits`.

    `logits`: float32 [R, V]; `uniform`: float64 [R] in (0, 1). Returns token ids, int64 [R], and
    their exact log-probs at `temperature`, float32 [R]. Blocks of 512 are summed first, so only
    one block per row is cumulated: the cost is one exp and one sum over the vocabulary.
    """
    if temperature != 1.0:
        logits.div_(temperature)
    weights = logits.sub_(logits.amax(-1, keepdim=True)).exp_()
    sums = _block_sums(weights).double()
    edges = sums.cumsum(-1)  # [R, blocks]
    target = uniform * edges[:, -1]
    block = _first_above(edges, target)
    before = (edges - sums).gather(1, block[:, None])
    inside = _slices(weights, block).double()  # [R, BLOCK]
    place = _first_above(inside.cumsum(-1) + before, target)
    chosen = inside.gather(1, place[:, None])[:, 0]
    return block * BLOCK + place, (chosen.log() - edges[:, -1].log()).float()


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


def _block_sums(weights: Tensor) -> Tensor:
    """[R, V] -> [R, ceil(V / BLOCK)], without copying the vocabulary to pad it."""
    rows, size = weights.shape
    whole = size // BLOCK * BLOCK
    sums = weights[:, :whole].unflatten(1, (whole // BLOCK, BLOCK)).sum(-1)
    if whole == size:
        return sums
    return torch.cat([sums, weights[:, whole:].sum(-1, keepdim=True)], dim=1)


def _slices(weights: Tensor, block: Tensor) -> Tensor:
    """The chosen block of every row, [R, BLOCK]; zero beyond the vocabulary."""
    index = block[:, None] * BLOCK + torch.arange(BLOCK, device=weights.device)
    beyond = index >= weights.shape[1]
    return weights.gather(1, index.clamp(max=weights.shape[1] - 1)).masked_fill(beyond, 0.0)


def _first_above(edges: Tensor, target: Tensor) -> Tensor:
    """The first index whose cumulated weight exceeds the target.

    Where rounding leaves none, the last index that added weight: never a token of probability 0.
    """
    above = (edges <= target[:, None]).sum(-1)
    last = (edges < edges[:, -1:]).sum(-1)
    return torch.minimum(above, last)
