"""Triton: the small operations of a decode step, each in one launch.

Residual sum with RMS norm, rotary embedding with the store into pages, gated activation. They
round where transformers' modules round, so that sampler and trainer agree. Importing this file
needs Triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TOGETHER = 32  # heads of one program
GATE_ROWS, GATE_BLOCK = 32, 128  # of one program


@triton.jit
def _add_norm(x_ptr, more_ptr, weight_ptr, out_ptr, width, more_stride, eps,
              ADD: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BLOCK)
    inside = i < width
    x = tl.load(x_ptr + row * width + i, mask=inside, other=0.0)
    if ADD:
        more = tl.load(more_ptr + row * more_stride + i, mask=inside, other=0.0)
        x = (x.to(tl.float32) + more.to(tl.float32)).to(x.dtype)
        tl.store(x_ptr + row * width + i, x, mask=inside)
    full = x.to(tl.float32)
    scale = tl.rsqrt(tl.sum(full * full, 0) / width + eps)
    weight = tl.load(weight_ptr + i, mask=inside, other=0.0)
    normed = (full * scale).to(x.dtype).to(tl.float32) * weight.to(tl.float32)
    tl.store(out_ptr + row * width + i, normed.to(x.dtype), mask=inside)


def add_norm(x: Tensor, more: Tensor | None, weight: Tensor, eps: float) -> Tensor:
    """x [R, W] += more (a column slice of [R, >= W]); returns the RMS norm of x times weight."""
    out = torch.empty_like(x)
    rows, width = x.shape
    _add_norm[(rows,)](
        x, x if more is None else more, weight, out, width,
        0 if more is None else more.stride(0), eps,
        ADD=more is not None, BLOCK=triton.next_power_of_2(width), num_warps=4,
    )  # fmt: skip
    return out


@triton.jit
def _rotate_store(qkv_ptr, cos_ptr, sin_ptr, q_weight_ptr, k_weight_ptr, q_ptr, k_ptr, v_ptr,
                  page_ptr, offset_ptr, stride, eps, HEADS: tl.constexpr, GROUPS: tl.constexpr,
                  SIZE: tl.constexpr, SIZE_P: tl.constexpr, PAGE: tl.constexpr,
                  NORMS: tl.constexpr, TOGETHER: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    head = (tl.program_id(1) * TOGETHER + tl.arange(0, TOGETHER))[:, None]
    d = tl.arange(0, SIZE_P)[None]
    inside = (head < HEADS + 2 * GROUPS) & (d < SIZE)
    other = tl.where(d < SIZE // 2, d + SIZE // 2, d - SIZE // 2)
    source = qkv_ptr + row * stride + head * SIZE
    raw = tl.load(source + d, mask=inside, other=0.0)
    x = raw
    partner = tl.load(source + other, mask=inside, other=0.0)
    if NORMS:
        full = x.to(tl.float32)
        scale = tl.rsqrt(tl.sum(full * full, 1) / SIZE + eps)[:, None]
        is_q, is_k = inside & (head < HEADS), inside & (head >= HEADS)
        weight = tl.load(q_weight_ptr + d + 0 * head, mask=is_q, other=0.0).to(tl.float32)
        weight += tl.load(k_weight_ptr + d + 0 * head, mask=is_k, other=0.0).to(tl.float32)
        turned = tl.load(q_weight_ptr + other + 0 * head, mask=is_q, other=0.0).to(tl.float32)
        turned += tl.load(k_weight_ptr + other + 0 * head, mask=is_k, other=0.0).to(tl.float32)
        x = ((full * scale).to(x.dtype).to(tl.float32) * weight).to(x.dtype)
        partner = (partner.to(tl.float32) * scale).to(x.dtype).to(tl.float32) * turned
        partner = partner.to(x.dtype)
    cos = tl.load(cos_ptr + row * SIZE + d, mask=d < SIZE, other=0.0).to(tl.float32)
    sin = tl.load(sin_ptr + row * SIZE + d, mask=d < SIZE, other=0.0).to(tl.float32)
    sign = tl.where(d < SIZE // 2, -1.0, 1.0)
    left = (x.to(tl.float32) * cos).to(x.dtype).to(tl.float32)
    right = (sign * partner.to(tl.float32) * sin).to(x.dtype).to(tl.float32)
    x = (left + right).to(x.dtype)
    tl.store(q_ptr + (row * HEADS + head) * SIZE + d, x, mask=inside & (head < HEADS))
    page, offset = tl.load(page_ptr + row), tl.load(offset_ptr + row)
    key = head - HEADS
    to = ((page * GROUPS + key) * PAGE + offset) * SIZE + d
    tl.store(k_ptr + to, x, mask=inside & (key >= 0) & (key < GROUPS))
    value = key - GROUPS
    to = ((page * GROUPS + value) * PAGE + offset) * SIZE + d
    tl.store(v_ptr + to, raw, mask=inside & (value >= 0))


def rotate_store(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
    page: Tensor,
    offset: Tensor,
    *,
    heads: int,
    norms: tuple[Tensor, Tensor, float] | None = None,
) -> Tensor:
    """Queries [R, H, D], rotated; keys and values go to `keys[page, :, offset]`, int64 [R].

    `qkv` [R, >= (H + 2 K) D]; `cos`, `sin` [R, D]; `norms`: weights [D] and eps of the norms that
    some families apply to queries and keys first.
    """
    rows, (_, groups, size, width) = qkv.shape[0], keys.shape
    q = torch.empty(rows, heads, width, dtype=qkv.dtype, device=qkv.device)
    q_weight, k_weight, eps = norms if norms is not None else (cos, cos, 0.0)
    grid = (rows, triton.cdiv(heads + 2 * groups, TOGETHER))
    _rotate_store[grid](
        qkv, cos, sin, q_weight, k_weight, q, keys, values, page, offset, qkv.stride(0), eps,
        HEADS=heads, GROUPS=groups, SIZE=width, SIZE_P=triton.next_power_of_2(width),
        PAGE=size, NORMS=norms is not None, TOGETHER=TOGETHER, num_warps=4,
    )  # fmt: skip
    return q


@triton.jit
def _corrected(y, low_ptr, up_ptr, row, column, rows, width, low_stride, up_stride,
               RANK: tl.constexpr, RANK_P: tl.constexpr):  # fmt: skip
    """A tile of y plus low [R, rank] times up [width, rank] transposed, rounded once."""
    k = tl.arange(0, RANK_P)
    inside = (row < rows)[:, None] & (k < RANK)[None]
    low = tl.load(low_ptr + row[:, None] * low_stride + k[None], mask=inside, other=0.0)
    inside = (column < width)[None] & (k < RANK)[:, None]
    up = tl.load(up_ptr + column[None] * up_stride + k[:, None], mask=inside, other=0.0)
    return (y.to(tl.float32) + tl.dot(low, up, input_precision="ieee")).to(y.dtype)


@triton.jit
def _gate(x_ptr, up_ptr, out_ptr, rows, width, stride, up_stride, RANK: tl.constexpr,
          RANK_P: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (i < width)[None]
    at = x_ptr + row[:, None] * stride + i[None]
    gate = tl.load(at, mask=inside, other=0.0)
    up = tl.load(at + width, mask=inside, other=0.0)
    low, more = x_ptr + 2 * width, up_ptr + width * up_stride + RANK
    gate = _corrected(gate, low, up_ptr, row, i, rows, width, stride, up_stride, RANK, RANK_P)
    up = _corrected(up, low + RANK, more, row, i, rows, width, stride, up_stride, RANK, RANK_P)
    full = gate.to(tl.float32)
    active = (full / (1.0 + tl.exp(-full))).to(gate.dtype).to(tl.float32)
    made = (active * up.to(tl.float32)).to(gate.dtype)
    tl.store(out_ptr + row[:, None] * width + i[None], made, mask=inside)


def gate(x: Tensor, up: Tensor) -> Tensor:
    """silu(g) u of an uncorrected product x [R, 2 W + 2 r] = [g, u, A of g, A of u], [R, W].

    `up` [2 W, 2 r] holds the adapters' B on its diagonal; they are added here, where g and u are
    read anyway.
    """
    width, rank = up.shape[0] // 2, up.shape[1] // 2
    out = torch.empty(x.shape[0], width, dtype=x.dtype, device=x.device)
    grid = (triton.cdiv(x.shape[0], GATE_ROWS), triton.cdiv(width, GATE_BLOCK))
    _gate[grid](
        x, up, out, x.shape[0], width, x.stride(0), up.stride(0), RANK=rank,
        RANK_P=max(16, triton.next_power_of_2(rank)), ROWS=GATE_ROWS, BLOCK=GATE_BLOCK,
        num_warps=4,
    )  # fmt: skip
    return out
