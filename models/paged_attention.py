"""Keys and values of rows in flight, in pages at fixed addresses, and attention over them.

Prompts and responses of all groups share one pool of pages per layer. Which page belongs to whom
stands in small tables that the host rewrites between forward passes, so a finished row is dropped
without moving a key, and a captured CUDA graph stays valid. Page 0 is nobody's: rows that only
fill a batch write there.

Symbols in shapes: R rows, H query heads, K key heads, D head size, n pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from eurekaflow.models.prefix_attention import Seen, causal

if TYPE_CHECKING:  # Triton is needed on CUDA only
    from eurekaflow.models.attention_kernels import PagedAttention

Whole = npt.NDArray[np.int64]
PAGE = 64  # tokens
TILE_ROWS = 16  # rows of one group that read its prompt together


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the attention of a model looks like."""

    layers: int
    heads: int
    groups: int  # key heads
    size: int  # of a head
    dtype: torch.dtype
    device: torch.device

    @property
    def page_bytes(self) -> int:
        """Of one page in all layers, keys and values."""
        return 2 * self.layers * self.groups * PAGE * self.size * self.dtype.itemsize


def attend(
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
    """The torch reference: each row against its prompt and its own tokens, q [R, H, D].

    `keys`, `values` [n, K, PAGE, D]; `tiles` int32 [T, 3]: first row, rows, prompt; the tables
    int32 hold page numbers and token counts. The new token's key is stored already and not counted
    in `row_length`.
    """
    out = torch.zeros_like(q)
    for first, count, prompt in tiles.tolist():
        for row in range(first, first + count):
            known = int(prompt_length[prompt])
            own = int(row_length[row]) + 1
            shared, mine = prompt_pages[prompt], row_pages[row]
            k, v = (
                torch.cat([_read(x, shared, known), _read(x, mine, own)], 1)
                for x in (keys, values)
            )
            if seen.window is not None:
                k, v = k[:, -seen.window :], v[:, -seen.window :]
            out[row] = _row(q[row], k, v, scale, seen)
    return out


def _read(pages: Tensor, table: Tensor, count: int) -> Tensor:
    """The first `count` tokens that a row of the page table leads to, [K, count, D]."""
    _, groups, page, size = pages.shape
    used = table[: -(-count // page)].long()
    return pages[used].transpose(0, 1).reshape(groups, -1, size)[:, :count]


def _row(q: Tensor, k: Tensor, v: Tensor, scale: float, seen: Seen) -> Tensor:
    heads, size = q.shape
    scores = torch.einsum("kgd,ktd->kgt", q.view(len(k), -1, size).float() * scale, k.float())
    scores = seen.capped(scores.reshape(heads, -1))
    if seen.sinks is not None:
        scores = torch.cat([scores, seen.sinks.float()[:, None]], dim=1)
    weights = scores.softmax(-1)[:, : k.shape[1]].view(len(k), -1, k.shape[1])
    return torch.einsum("kgt,ktd->kgd", weights, v.float()).reshape(heads, size).to(q.dtype)


class PagedCache:
    """The pool and its tables, for up to `rows` rows of `prompts` prompts."""

    def __init__(self, shape: Shape, *, rows: int, prompts: int, most: int, pages: int) -> None:
        """`most`: pages of one prompt or row; `pages`: of the pool, page 0 included."""
        self.shape, self.rows, self.prompts, self.most = shape, rows, prompts, most
        device = shape.device
        size = (shape.layers, pages, shape.groups, PAGE, shape.size)
        self.keys = torch.zeros(size, dtype=shape.dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.free = list(range(pages - 1, 0, -1))
        whole = torch.int32
        self.tiles = torch.zeros(rows // TILE_ROWS + prompts, 3, dtype=whole, device=device)
        self.prompt_pages = torch.zeros(prompts, self.most, dtype=whole, device=device)
        self.prompt_length = torch.zeros(prompts, dtype=whole, device=device)
        self.row_pages = torch.zeros(rows, self.most, dtype=whole, device=device)
        self.row_length = torch.zeros(rows, dtype=whole, device=device)
        self.kernels = _kernels(shape, rows)

    def take(self, count: int) -> list[int]:
        """Free pages; raises MemoryError where there are fewer."""
        if count > len(self.free):
            raise MemoryError(f"{count} pages are wanted, {len(self.free)} are free")
        return [self.free.pop() for _ in range(count)]

    def give(self, pages: Sequence[int]) -> None:
        self.free.extend(pages)

    def pass_(self, rows: int) -> PagedPass:
        """Attention of one decode step over the first `rows` rows."""
        return PagedPass(self, rows)

    def write_prompts(self, passed: PromptsPass, pages: Sequence[Sequence[int]]) -> None:
        """Moves the keys and values [B, K, P, D] of a prompt pass into pages."""
        length = passed.keys[0].shape[2]
        wide = -(-length // PAGE)
        index = torch.from_numpy(_table(pages, wide)).to(self.shape.device).long()
        for pool, made in ((self.keys, passed.keys), (self.values, passed.values)):
            for layer, tokens in enumerate(made):
                padded = pad(tokens, (0, 0, 0, wide * PAGE - length))
                pool[layer][index] = padded.view(*padded.shape[:2], wide, PAGE, -1).transpose(1, 2)

    def set_prompts(self, pages: Sequence[Sequence[int]], lengths: Sequence[int]) -> None:
        table = torch.from_numpy(_table(pages, self.most))
        self.prompt_pages[: len(pages)].copy_(table)
        self.prompt_length[: len(lengths)].copy_(torch.tensor(lengths, dtype=torch.int32))

    def set_rows(self, pages: npt.NDArray[np.int32], lengths: Whole, prompts: Whole) -> None:
        """Rows in flight, those of a prompt next to each other; what is beyond fills the batch."""
        count, wide = pages.shape
        table = np.zeros((self.rows, self.most), dtype=np.int32)
        table[:count, :wide] = pages
        full = np.zeros(self.rows, dtype=np.int32)
        full[:count] = lengths
        tiles = np.zeros(tuple(self.tiles.shape), dtype=np.int32)
        made = _tiles(prompts)
        tiles[: len(made)] = made
        self.row_pages.copy_(torch.from_numpy(table))
        self.row_length.copy_(torch.from_numpy(full))
        self.tiles.copy_(torch.from_numpy(tiles))


class PagedPass:
    """One token of every row: stores its key and value, then attends."""

    def __init__(self, cache: PagedCache, rows: int) -> None:
        self.cache, self.rows = cache, rows
        length = cache.row_length[:rows].long()
        self.page = cache.row_pages[:rows].gather(1, (length // PAGE)[:, None])[:, 0].long()
        self.offset = length % PAGE

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, seen: Seen
    ) -> Tensor:
        """q [R, H, 1, D], k and v [R, K, 1, D] -> [R, 1, H, D]."""
        cache = self.cache
        cache.keys[layer][self.page, :, self.offset] = k[:, :, 0]
        cache.values[layer][self.page, :, self.offset] = v[:, :, 0]
        return self.read(layer, q[:, :, 0].contiguous(), scale, seen)[:, None]

    def read(self, layer: int, q: Tensor, scale: float, seen: Seen) -> Tensor:
        """Attention of q [R, H, D] where keys and values are stored already."""
        c = self.cache
        tables = (c.tiles, c.prompt_pages, c.prompt_length, c.row_pages, c.row_length)
        run = attend if c.kernels is None else c.kernels.attend
        return run(q, c.keys[layer], c.values[layer], *tables, scale=scale, seen=seen)


class PromptsPass:
    """Prompts padded on the right to one length: remembers keys and values [B, K, P, D]."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, seen: Seen
    ) -> Tensor:
        if layer != len(self.keys):
            raise RuntimeError(f"attention layer {layer} ran, but {len(self.keys)} was next")
        self.keys.append(k)
        self.values.append(v)
        return causal(q, k, v, scale, seen)


def _table(pages: Sequence[Sequence[int]], wide: int) -> npt.NDArray[np.int32]:
    table = np.zeros((len(pages), wide), dtype=np.int32)
    for i, used in enumerate(pages):
        table[i, : len(used)] = used
    return table


def _tiles(prompts: Whole) -> npt.NDArray[np.int64]:
    """(first row, rows, prompt) of at most TILE_ROWS neighbours each, [T, 3]."""
    starts = np.flatnonzero(np.diff(prompts, prepend=-1))
    ends = np.append(starts[1:], len(prompts))
    first = [np.arange(a, b, TILE_ROWS) for a, b in zip(starts, ends, strict=True)]
    firsts = np.concatenate([np.zeros(0, dtype=np.int64), *first])
    until = np.minimum(firsts + TILE_ROWS, np.repeat(ends, [len(part) for part in first]))
    return np.stack([firsts, until - firsts, prompts[firsts]], axis=1)


def _kernels(shape: Shape, rows: int) -> PagedAttention | None:
    if shape.device.type != "cuda":
        return None
    from eurekaflow.models.attention_kernels import PagedAttention

    return PagedAttention(
        rows=rows, heads=shape.heads, groups=shape.groups, size=shape.size, device=shape.device
    )
