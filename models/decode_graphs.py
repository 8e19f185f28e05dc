"""Decode steps over rows in flight: static row state, CUDA graphs, tokens drawn on the device.

A step feeds every row its newest token, draws the next one and advances; nothing comes back to
the host until it asks. On CUDA a step is captured once per batch size of a ladder and replayed.
On a CPU the same step runs eagerly, for tests.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from eurekaflow.models import counters, kernels
from eurekaflow.models.decode_step import Decoder
from eurekaflow.models.flights import RowState
from eurekaflow.models.paged_attention import PagedCache

LADDER = (8, 16, 32, 48, 64, 96, 128, 192, 256, 320, 384, 448, 512)
STEP = 128  # between batch sizes beyond the ladder
COLUMNS = 32  # most steps between two looks of the host
FORCED = 128  # most forced tokens of a row


def batch_size(rows: int) -> int:
    """The smallest captured batch that holds `rows`."""
    fitting = [size for size in LADDER if size >= rows]
    return fitting[0] if fitting else -(-rows // STEP) * STEP


class DecodeGraphs:
    """Steps on static buffers for up to `cache.rows` rows."""

    def __init__(
        self, decoder: Decoder, head: Callable[[Tensor], Tensor], cache: PagedCache
    ) -> None:
        self.decoder, self.head, self.cache = decoder, head, cache
        device, rows = cache.shape.device, cache.rows
        self.device = device
        self.state = torch.zeros(3, rows, dtype=torch.int64, device=device)
        self.ids, self.positions, self.seeds = self.state
        self.forced = torch.zeros(rows, FORCED, dtype=torch.int64, device=device)
        self.forced_range = torch.zeros(2, rows, dtype=torch.int32, device=device)
        self.column = torch.zeros(1, dtype=torch.int64, device=device)
        self.tokens = torch.zeros(COLUMNS, rows, dtype=torch.int64, device=device)
        self.logprobs = torch.zeros(COLUMNS, rows, device=device)
        self._forcing = False  # whether a forced range is set on the device
        self._graphs: dict[tuple[int, float, bool], torch.cuda.CUDAGraph | None] = {}
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def load(self, rows: RowState) -> None:
        """The rows in flight, those of a prompt next to each other."""
        self.cache.set_rows(rows.pages, rows.place, rows.prompt)
        count = len(rows.token)
        state = np.zeros((3, self.cache.rows), dtype=np.int64)
        state[:, :count] = rows.token, rows.position, rows.seed
        self.state.copy_(torch.from_numpy(state))
        if rows.forced:
            self._load_forced(rows)
        elif self._forcing:
            self.forced_range.zero_()
        self._forcing = bool(rows.forced)

    def _load_forced(self, rows: RowState) -> None:
        table = np.zeros((self.cache.rows, FORCED), dtype=np.int64)
        bounds = np.zeros((2, self.cache.rows), dtype=np.int32)
        for i, (start, tokens) in rows.forced.items():
            table[i, : len(tokens)] = tokens
            bounds[:, i] = start, start + len(tokens)
        self.forced.copy_(torch.from_numpy(table))
        self.forced_range.copy_(torch.from_numpy(bounds))

    @torch.no_grad()
    def launch(self, rows: int, count: int, *, temperature: float, forcing: bool) -> None:
        """Start `count` steps of the first `rows` rows; the device works on its own."""
        self.column.zero_()
        if self.device.type != "cuda":
            for _ in range(count):
                self._step(rows, temperature, forcing)
            return
        size = min(batch_size(rows), self.cache.rows)
        graph = self._graph(size, temperature, forcing)
        for _ in range(count):
            if graph is None:
                self._step(size, temperature, forcing)
            else:
                graph.replay()

    def fetch(
        self, rows: int, count: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Tokens and log-probs [count, rows] of the steps launched last."""
        tokens = self.tokens[:count, :rows].cpu().numpy()
        return tokens, self.logprobs[:count, :rows].cpu().numpy()

    def _graph(self, size: int, temperature: float, forcing: bool) -> torch.cuda.CUDAGraph | None:
        """The captured step; None for a model whose step cannot be captured."""
        key = (size, temperature, forcing)
        if key not in self._graphs:
            state = (self.state, self.cache.row_length, self.column)
            before = [t.clone() for t in state]
            self._graphs[key] = self._capture(size, temperature, forcing)
            for tensor, old in zip(state, before, strict=True):
                tensor.copy_(old)
        return self._graphs[key]

    def _capture(
        self, size: int, temperature: float, forcing: bool
    ) -> torch.cuda.CUDAGraph | None:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # kernels are compiled and workspaces made before capture
            self._step(size, temperature, forcing)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                self._step(size, temperature, forcing)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError:  # some experts ask the host which of them were chosen
            torch.cuda.synchronize()
            return None
        return graph

    def _step(self, size: int, temperature: float, forcing: bool) -> None:
        attention = self.cache.pass_(size)
        places = self.cache.row_length[:size]
        hidden = self.decoder(self.ids[:size], self.positions[:size], attention)
        ids, logprobs = self._draw(self.head(hidden), self.seeds[:size], places, temperature)
        if forcing:
            start, end = self.forced_range[:, :size]
            index = (places - start).clamp(0, FORCED - 1).long()
            inside = (places >= start) & (places < end)
            ids = torch.where(inside, self.forced[:size].gather(1, index[:, None])[:, 0], ids)
            logprobs = logprobs.masked_fill(inside, 0.0)
        self.tokens[:, :size].index_copy_(0, self.column, ids[None])
        self.logprobs[:, :size].index_copy_(0, self.column, logprobs[None])
        self.ids[:size].copy_(ids)
        self.positions[:size].add_(1)
        places.add_(1)
        self.column.add_(1)

    def _draw(
        self, logits: Tensor, seeds: Tensor, places: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        if logits.device.type == "cuda":
            from eurekaflow.models import sampling_kernels

            return sampling_kernels.draw(logits, seeds, places, temperature=temperature)
        uniform = counters.from_seeds(seeds.numpy(), places.numpy().astype(np.int64))
        return kernels.draw(logits, torch.from_numpy(uniform), temperature=temperature)
