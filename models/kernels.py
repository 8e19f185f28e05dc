"""The block sampler: one token per row by inverting the distribution function at a uniform."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 512  # vocabulary entries summed together


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


def _block_sums(weights: Tensor) -> Tensor:
    """[R, V] -> [R, ceil(V / BLOCK)], without copying the vocabulary to pad it."""
    size = weights.shape[1]
    whole = size // BLOCK * BLOCK
    sums = weights[:, :whole].reshape(-1, whole // BLOCK, BLOCK).sum(-1)
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
