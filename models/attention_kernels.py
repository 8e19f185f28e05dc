"""Triton: one new token of every row against a shared prompt and the row's own pages.

Three launches. The prompt's part takes many rows of one group at a time, so that its keys are read
once per tile of rows and multiplied on the matrix units; the own part takes one row; both leave
an output and its log-sum-exp (base 2), and the third launch merges them, sinks included. The torch
reference is `paged_attention.attend`. Importing this file needs Triton.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from eurekaflow.models.paged_attention import TILE_ROWS
from eurekaflow.models.prefix_attention import Seen

LOG2E = math.log2(math.e)


@triton.jit
def _scored(q, k, v, visible, best, total, out, scale, cap, CAPPED: tl.constexpr):
    """One block of keys into the running maximum, sum and output (online softmax, base 2)."""
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    if CAPPED:
        scores = cap * (2.0 * tl.sigmoid(2.0 * scores / cap) - 1.0)  # cap tanh(scores / cap)
    scores = tl.where(visible, scores, float("-inf"))
    top = tl.maximum(best, tl.max(scores, 1))
    safe = tl.where(top == float("-inf"), 0.0, top)  # nothing visible yet: no NaN
    weights = tl.exp2(scores - safe[:, None])
    decay = tl.exp2(best - safe)
    total = total * decay + tl.sum(weights, 1)
    out = out * decay[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
    return top, total, out


@triton.jit
def _prompt_part(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    lse_ptr,
    tiles_ptr,
    pages_ptr,
    lengths_ptr,
    own_ptr,
    scale,
    cap,
    window,
    most_pages,
    rows_held,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    EACH: tl.constexpr,
    SIZE: tl.constexpr,
    SIZE_P: tl.constexpr,
    PAGE: tl.constexpr,
    ROWS: tl.constexpr,
    SPLITS: tl.constexpr,
    CAPPED: tl.constexpr,
):
    tile, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    first = tl.load(tiles_ptr + 3 * tile)
    count = tl.load(tiles_ptr + 3 * tile + 1)
    prompt = tl.load(tiles_ptr + 3 * tile + 2)
    if count > 0:
        length = tl.load(lengths_ptr + prompt)
        share = tl.cdiv(tl.cdiv(length, PAGE), SPLITS)
        low = split * share
        high = tl.minimum(low + share, tl.cdiv(length, PAGE))
        place = tl.arange(0, ROWS * EACH)
        row = first + place // EACH
        query = head * (HEADS // GROUPS) + place % EACH
        valid = (place // EACH < count) & (place % EACH < HEADS // GROUPS)
        d = tl.arange(0, SIZE_P)
        at = (row * HEADS + query) * SIZE
        q = tl.load(q_ptr + at[:, None] + d, mask=valid[:, None] & (d < SIZE)[None], other=0.0)
        position = length + tl.load(own_ptr + row, mask=valid, other=0)
        best = tl.full([ROWS * EACH], float("-inf"), tl.float32)
        total = tl.zeros([ROWS * EACH], tl.float32)
        out = tl.zeros([ROWS * EACH, SIZE_P], tl.float32)
        t = tl.arange(0, PAGE)
        for i in range(low, high):
            page = tl.load(pages_ptr + prompt * most_pages + i).to(tl.int64)
            where = ((page * GROUPS + head) * PAGE + t)[:, None] * SIZE + d[None]
            inside = ((i * PAGE + t) < length)[:, None] & (d < SIZE)[None]
            k = tl.load(k_ptr + where, mask=inside, other=0.0)
            v = tl.load(v_ptr + where, mask=inside, other=0.0)
            key = (i * PAGE + t)[None]
            visible = (key < length) & (key > position[:, None] - window)
            best, total, out = _scored(q, k, v, visible, best, total, out, scale, cap, CAPPED)
        out = out / tl.maximum(total, 1e-30)[:, None]
        lse = best + tl.log2(tl.maximum(total, 1e-30))
        part = split * rows_held + row
        to = (part * HEADS + query) * SIZE
        tl.store(out_ptr + to[:, None] + d, out, mask=valid[:, None] & (d < SIZE)[None])
        tl.store(lse_ptr + part * HEADS + query, lse, mask=valid)


@triton.jit
def _own_part(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    lse_ptr,
    pages_ptr,
    own_ptr,
    scale,
    cap,
    window,
    most_pages,
    rows_held,
    HEADS: tl.constexpr,
    GROUPS: tl.constexpr,
    EACH: tl.constexpr,
    SIZE: tl.constexpr,
    SIZE_P: tl.constexpr,
    PAGE: tl.constexpr,
    SPLITS: tl.constexpr,
    CAPPED: tl.constexpr,
    FIRST: tl.constexpr,
):
    row, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(own_ptr + row) + 1  # the new token is in its page already
    start = tl.maximum(length - window, 0) // PAGE
    share = tl.cdiv(tl.cdiv(length, PAGE) - start, SPLITS)
    low = start + split * share
    high = tl.minimum(low + share, tl.cdiv(length, PAGE))
    g = tl.arange(0, EACH)
    query = head * (HEADS // GROUPS) + g
    valid = g < HEADS // GROUPS
    d = tl.arange(0, SIZE_P)
    at = (row * HEADS + query) * SIZE
    q = tl.load(q_ptr + at[:, None] + d, mask=valid[:, None] & (d < SIZE)[None], other=0.0)
    best = tl.full([EACH], float("-inf"), tl.float32)
    total = tl.zeros([EACH], tl.float32)
    out = tl.zeros([EACH, SIZE_P], tl.float32)
    t = tl.arange(0, PAGE)
    for i in range(low, high):
        page = tl.load(pages_ptr + row * most_pages + i).to(tl.int64)
        where = ((page * GROUPS + head) * PAGE + t)[:, None] * SIZE + d[None]
        key = i * PAGE + t
        inside = (key < length)[:, None] & (d < SIZE)[None]
        k = tl.load(k_ptr + where, mask=inside, other=0.0)
        v = tl.load(v_ptr + where, mask=inside, other=0.0)
        visible = ((key < length) & (key > length - 1 - window))[None]
        best, total, out = _scored(q, k, v, visible, best, total, out, scale, cap, CAPPED)
    out = out / tl.maximum(total, 1e-30)[:, None]
    lse = best + tl.log2(tl.maximum(total, 1e-30))
    part = (FIRST + split) * rows_held + row
    to = (part * HEADS + query) * SIZE
    tl.store(out_ptr + to[:, None] + d, out, mask=valid[:, None] & (d < SIZE)[None])
    tl.store(lse_ptr + part * HEADS + query, lse, mask=valid)


@triton.jit
def _merge(
    part_ptr,
    lse_ptr,
    sink_ptr,
    out_ptr,
    rows_held,
    HEADS: tl.constexpr,
    HEADS_P: tl.constexpr,
    SIZE: tl.constexpr,
    SIZE_P: tl.constexpr,
    PARTS: tl.constexpr,
    SINKS: tl.constexpr,
):
    row = tl.program_id(0)
    h = tl.arange(0, HEADS_P)
    d = tl.arange(0, SIZE_P)
    if SINKS:
        best = tl.load(sink_ptr + h, mask=h < HEADS, other=0.0).to(tl.float32) * 1.4426950408889634
        total = tl.full([HEADS_P], 1.0, tl.float32)
    else:
        best = tl.full([HEADS_P], float("-inf"), tl.float32)
        total = tl.zeros([HEADS_P], tl.float32)
    out = tl.zeros([HEADS_P, SIZE_P], tl.float32)
    inside = (h < HEADS)[:, None] & (d < SIZE)[None]
    for part in tl.static_range(PARTS):
        at = (part * rows_held + row) * HEADS + h
        lse = tl.load(lse_ptr + at, mask=h < HEADS, other=float("-inf"))
        found = tl.load(part_ptr + at[:, None] * SIZE + d[None], mask=inside, other=0.0)
        top = tl.maximum(best, lse)
        safe = tl.where(top == float("-inf"), 0.0, top)
        decay, weight = tl.exp2(best - safe), tl.exp2(lse - safe)
        out = out * decay[:, None] + found * weight[:, None]
        total = total * decay + weight
        best = top
    out = out / tl.maximum(total, 1e-30)[:, None]
    to = (row * HEADS + h)[:, None] * SIZE + d[None]
    tl.store(out_ptr + to, out.to(out_ptr.dtype.element_ty), mask=inside)


class PagedAttention:
    """The kernels with their scratch, for up to `rows` rows of a model with `heads` x `size`."""

    def __init__(
        self, *, rows: int, heads: int, groups: int, size: int, device: torch.device
    ) -> None:
        self.heads, self.groups, self.size = heads, groups, size
        self.prompt_splits, self.most_own = 4, 8
        parts = self.prompt_splits + self.most_own
        self.part = torch.zeros(parts, rows, heads, size, device=device)
        self.lse = torch.full((parts, rows, heads), float("-inf"), device=device)
        self.side = torch.cuda.Stream(device) if device.type == "cuda" else None

    def attend(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        tiles: Tensor,
        prompt_pages: Tensor,
        prompt_length: Tensor,
        row_pages: Tensor,
        row_length: Tensor,
        *,
        scale: float,
        seen: Seen,
    ) -> Tensor:
        """As `paged_attention.attend`: q [R, H, D], pages [n, K, PAGE, D] -> [R, H, D]."""
        rows, own = q.shape[0], self._own_splits(q.shape[0])
        held, page = self.part.shape[1], keys.shape[2]
        each = max(1, triton.next_power_of_2(self.heads // self.groups))
        sizes = {
            "HEADS": self.heads,
            "GROUPS": self.groups,
            "SIZE": self.size,
            "SIZE_P": max(16, triton.next_power_of_2(self.size)),
            "PAGE": page,
            "CAPPED": seen.cap is not None,
        }
        cap = (seen.cap or 1.0) * LOG2E
        reach = 2**30 if seen.window is None else seen.window
        out = torch.empty_like(q)
        with self._beside():
            _prompt_part[(tiles.shape[0], self.groups, self.prompt_splits)](
                q, keys, values, self.part, self.lse, tiles, prompt_pages, prompt_length,
                row_length, scale * LOG2E, cap, reach, prompt_pages.shape[1], held,
                EACH=each, ROWS=TILE_ROWS, SPLITS=self.prompt_splits, num_warps=4, **sizes,
            )  # fmt: skip
        _own_part[(rows, self.groups, own)](
            q, keys, values, self.part, self.lse, row_pages, row_length,
            scale * LOG2E, cap, reach, row_pages.shape[1], held,
            EACH=max(16, each), SPLITS=own, FIRST=self.prompt_splits, num_warps=2, **sizes,
        )  # fmt: skip
        if self.side is not None:
            torch.cuda.current_stream().wait_stream(self.side)
        _merge[(rows,)](
            self.part, self.lse, self.lse if seen.sinks is None else seen.sinks, out, held,
            HEADS=self.heads, HEADS_P=triton.next_power_of_2(self.heads), SIZE=self.size,
            SIZE_P=sizes["SIZE_P"], PARTS=self.prompt_splits + own, SINKS=seen.sinks is not None,
            num_warps=4,
        )  # fmt: skip
        return out

    @contextlib.contextmanager
    def _beside(self) -> Iterator[None]:
        """Launches in a stream of its own: the prompt's part computes while the own part reads."""
        if self.side is None:
            yield
            return
        self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            yield

    def _own_splits(self, rows: int) -> int:
        """Fewer rows, more splits: enough programs for every multiprocessor."""
        wanted = 256 // max(1, rows * self.groups)
        return max(1, min(self.most_own, 1 << max(0, wanted.bit_length() - 1)))
