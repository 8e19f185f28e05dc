"""Triton: log-probs of targets from a chunk of logits, and the loss' gradient in their place.

Each reads the chunk once. The torch reference is in `fused_loss`. Importing this file needs
Triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096  # vocabulary entries read together


@triton.jit
def _row(logits_ptr, targets_ptr, logp_ptr, total_ptr, vocabulary, inverse, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BLOCK)
    best = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocabulary, BLOCK):
        at = start + i
        x = tl.load(logits_ptr + row * vocabulary + at, mask=at < vocabulary, other=float("-inf"))
        x = x * inverse
        top = tl.maximum(best, x)
        safe = tl.where(top == float("-inf"), 0.0, top)
        total = total * tl.exp(best - safe) + tl.exp(x - safe)
        best = top
    top = tl.max(best, 0)
    log_total = top + tl.log(tl.sum(total * tl.exp(best - top), 0))
    target = tl.load(targets_ptr + row)
    chosen = tl.load(logits_ptr + row * vocabulary + target) * inverse
    tl.store(logp_ptr + row, chosen - log_total)
    tl.store(total_ptr + row, log_total)


@triton.jit
def _slopes(logits_ptr, targets_ptr, total_ptr, slope_ptr, out_ptr, vocabulary, inverse,
            BLOCK: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(logits_ptr + row * vocabulary + at, mask=at < vocabulary, other=float("-inf"))
    chance = tl.exp(x * inverse - tl.load(total_ptr + row))
    hit = (at == tl.load(targets_ptr + row)).to(tl.float32)
    found = (hit - chance) * tl.load(slope_ptr + row)
    to = out_ptr + row * vocabulary + at
    tl.store(to, found.to(out_ptr.dtype.element_ty), mask=at < vocabulary)


def row_logprobs(logits: Tensor, targets: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probs of the targets and the log-normalisers, float32 [n], of logits float32 [n, V]."""
    rows, vocabulary = logits.shape
    logp, total = torch.empty(2, rows, device=logits.device).unbind()
    _row[(rows,)](
        logits, targets, logp, total, vocabulary, 1.0 / temperature, BLOCK=BLOCK, num_warps=8
    )
    return logp, total


def logit_gradient(
    logits: Tensor,
    targets: Tensor,
    total: Tensor,
    slope: Tensor,
    *,
    temperature: float,
    dtype: torch.dtype,
) -> Tensor:
    """slope (onehot(target) - softmax), [n, V] in `dtype`; `slope` is d loss / d logp."""
    rows, vocabulary = logits.shape
    out = torch.empty(rows, vocabulary, dtype=dtype, device=logits.device)
    _slopes[(rows, triton.cdiv(vocabulary, BLOCK))](
        logits, targets, total, slope, out, vocabulary, 1.0 / temperature,
        BLOCK=BLOCK, num_warps=8,
    )  # fmt: skip
    return out
