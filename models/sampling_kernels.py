"""Triton: draw one token per row from its logits, with its exact log-prob.

The same inverse distribution function as `kernels.draw`: blocks are summed first, in one pass over
the vocabulary; then one program a row finds the block, reads it again and finds the token. The
uniform is made on the device from the row's seed and position, the same number as
`counters.uniforms` gives. Importing this file needs Triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # vocabulary entries summed together


@triton.jit
def _block_sums(logits_ptr, tops_ptr, sums_ptr, vocabulary, blocks, inverse, BLOCK: tl.constexpr):
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    at = block * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(logits_ptr + row * vocabulary + at, mask=at < vocabulary, other=float("-inf"))
    x = x.to(tl.float32) * inverse
    top = tl.max(x, 0)
    safe = tl.where(top == float("-inf"), 0.0, top)
    tl.store(tops_ptr + row * blocks + block, top)
    tl.store(sums_ptr + row * blocks + block, tl.sum(tl.exp(x - safe), 0))


@triton.jit
def _mixed(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)


@triton.jit
def _uniform(seed, position):
    state = _mixed((seed ^ position) + 0x9E3779B97F4A7C15)
    return ((state >> 11).to(tl.float64) + 0.5) * 1.1102230246251565e-16  # 2 ** -53


@triton.jit
def _pick(
    logits_ptr,
    tops_ptr,
    sums_ptr,
    seeds_ptr,
    positions_ptr,
    ids_ptr,
    logprobs_ptr,
    vocabulary,
    blocks,
    inverse,
    BLOCK: tl.constexpr,
    BLOCKS_P: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    seed = tl.load(seeds_ptr + row).to(tl.uint64, bitcast=True)
    uniform = _uniform(seed, tl.load(positions_ptr + row).to(tl.uint64))
    b = tl.arange(0, BLOCKS_P)
    tops = tl.load(tops_ptr + row * blocks + b, mask=b < blocks, other=float("-inf"))
    sums = tl.load(sums_ptr + row * blocks + b, mask=b < blocks, other=0.0)
    top = tl.max(tops, 0)
    weights = tl.where(tops == float("-inf"), 0.0, sums * tl.exp(tops - top)).to(tl.float64)
    edges = tl.cumsum(weights, 0)
    total = tl.sum(weights, 0)
    target = uniform * total
    last = tl.max(tl.where(weights > 0, b, 0), 0)  # where rounding leaves none above the target
    block = tl.minimum(tl.sum((edges <= target).to(tl.int32), 0), last)
    before = tl.sum(tl.where(b < block, weights, 0.0), 0)
    i = tl.arange(0, BLOCK)
    at = block * BLOCK + i
    x = tl.load(logits_ptr + row * vocabulary + at, mask=at < vocabulary, other=float("-inf"))
    x = x.to(tl.float32) * inverse
    inside = tl.where(x == float("-inf"), 0.0, tl.exp(x - top)).to(tl.float64)
    within = tl.cumsum(inside, 0)
    last = tl.max(tl.where(inside > 0, i, 0), 0)
    place = tl.minimum(tl.sum((within + before <= target).to(tl.int32), 0), last)
    chosen = tl.sum(tl.where(i == place, x, 0.0), 0)
    tl.store(ids_ptr + row, (block * BLOCK + place).to(tl.int64))
    tl.store(logprobs_ptr + row, (chosen - top).to(tl.float64) - tl.log(total))


def draw(
    logits: Tensor, seeds: Tensor, positions: Tensor, *, temperature: float
) -> tuple[Tensor, Tensor]:
    """One token per row: ids int64 [R] and log-probs float32 [R].

    `logits` [R, V], left as they are; `seeds` int64 [R], see `counters.row_seeds`; `positions`
    int32 [R], the token's place in its response.
    """
    rows, vocabulary = logits.shape
    blocks = triton.cdiv(vocabulary, BLOCK)
    tops = torch.empty(rows, blocks, device=logits.device)
    sums = torch.empty(rows, blocks, device=logits.device)
    ids = torch.empty(rows, dtype=torch.int64, device=logits.device)
    logprobs = torch.empty(rows, device=logits.device)
    inverse = 1.0 / temperature
    _block_sums[(rows, blocks)](
        logits, tops, sums, vocabulary, blocks, inverse, BLOCK=BLOCK, num_warps=4
    )
    _pick[(rows,)](
        logits, tops, sums, seeds, positions, ids, logprobs, vocabulary, blocks, inverse,
        BLOCK=BLOCK, BLOCKS_P=triton.next_power_of_2(blocks), num_warps=4,
    )  # fmt: skip
    return ids, logprobs
