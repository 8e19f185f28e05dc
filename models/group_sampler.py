"""Samples many waves at once: all groups of a step in flight together.

Every row advances by one token per step, drawn on the device; the host looks every few tokens,
takes out rows that have ended (tokens after the end are discarded: they changed nothing else) and
lets waiting rows in. A row's prompt is computed once for all rows that share it; the prompt's last
token is fed as the row's first, so the first token is drawn like any other. Ended responses are
handed out while the device works on the next tokens.

The same responses as `WaveSampler`'s up to rounding: same counters, same stops, same phases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from eurekaflow.models.decode_graphs import COLUMNS, FORCED, DecodeGraphs, batch_size
from eurekaflow.models.decode_step import Decoder, FusedHead
from eurekaflow.models.flights import Flights
from eurekaflow.models.paged_attention import PAGE, PagedCache, PromptsPass, Shape, Whole
from eurekaflow.models.policy import Response, Wave
from eurekaflow.models.renderer import Renderer

LOOK = 8  # tokens between two looks of the host
MOST_ROWS = 1024  # in flight
MOST_PREFILL = 32768  # padded prompt tokens of one forward pass
POOL_SHARE = 0.4  # of the free memory, at most, for pages


class GroupSampler:
    """Samples waves of any groups with a model whose attention is `eureka_prefix`."""

    def __init__(
        self, model: nn.Module, decoder: Decoder, head: FusedHead, renderer: Renderer, shape: Shape
    ) -> None:
        self.model, self.decoder, self.head = model, decoder, head
        self.renderer, self.shape = renderer, shape
        self._steps: DecodeGraphs | None = None
        self._ending = np.zeros(0, dtype=np.bool_)
        self._ending_for: tuple[tuple[str, ...], frozenset[int]] | None = None

    def refresh(self) -> None:
        """Take over the trained adapters."""
        self.decoder.refresh()
        self.head.refresh()

    def sample(self, waves: Sequence[Wave]) -> Iterator[tuple[int, Response]]:
        """(wave, response) in the order in which they finish; `wave` indexes `waves`.

        Waves share temperature and stop strings. Raises ValueError where a prompt leaves no room,
        MemoryError where not even one row fits.
        """
        if not waves:
            return
        most = -(-max(wave.window for wave in waves) // PAGE) + 1
        flights = Flights(waves, most_pages=most, slack=COLUMNS)
        steps = self._room(flights, most)
        self._prepare_stops(waves[0].stop)
        held = self._prefill(steps.cache, flights.prompts)
        flying = np.zeros(0, dtype=np.int64)
        try:
            waiting = np.arange(len(flights))
            done: list[tuple[int, str]] = []
            loaded = False
            while len(flying) or len(waiting):
                flying, waiting, changed = self._admit(steps.cache, flights, flying, waiting)
                if changed or not loaded:
                    steps.load(flights.state(flying))
                    loaded = True
                count = flights.steps(flying, LOOK)
                steps.launch(
                    len(flying),
                    count,
                    temperature=waves[0].temperature,
                    forcing=any(wave.phase1_tokens is not None for wave in waves),
                )
                for row, finish in done:  # while the device works
                    yield int(flights.wave[row]), self._response(flights, row, finish)
                done, forced = self._look(steps, flights, flying, count)
                for row, _ in done:
                    steps.cache.give(flights.drop(row))
                if done:
                    flying = np.setdiff1d(flying, [row for row, _ in done], assume_unique=True)
                loaded = not (done or forced)
            for row, finish in done:
                yield int(flights.wave[row]), self._response(flights, row, finish)
        finally:
            for row in flying.tolist():
                steps.cache.give(flights.drop(row))
            for pages in held:
                steps.cache.give(pages)

    def _room(self, flights: Flights, most: int) -> DecodeGraphs:
        """Static buffers large enough; made anew, with their graphs, only where they are not."""
        count = min(batch_size(len(flights)), MOST_ROWS)
        prompts = len(flights.prompts)
        fixed = sum(_pages(len(prompt)) for prompt in flights.prompts) + 1
        wanted = fixed + count * _pages(int(flights.limit.max()) + LOOK)
        cache = None if self._steps is None else self._steps.cache
        if (
            self._steps is None
            or cache is None
            or cache.rows < count
            or cache.prompts < prompts
            or cache.most < most
            or cache.keys.shape[1] < min(wanted, self._affordable(wanted, cache))
        ):
            self._steps = cache = None
            pages = self._affordable(wanted, None)
            self._steps = DecodeGraphs(
                self.decoder,
                self.head,
                PagedCache(
                    self.shape, rows=count, prompts=max(8, prompts), most=most, pages=pages
                ),
            )
        return self._steps

    def _affordable(self, wanted: int, held: PagedCache | None) -> int:
        """Pages that memory allows, those of the present pool counted as free."""
        if self.shape.device.type != "cuda":
            return wanted
        free = torch.cuda.mem_get_info(self.shape.device)[0]
        if held is not None:
            free += held.keys.shape[1] * self.shape.page_bytes
        return min(wanted, int(POOL_SHARE * free) // self.shape.page_bytes)

    @torch.no_grad()
    def _prefill(self, cache: PagedCache, prompts: Sequence[tuple[int, ...]]) -> list[list[int]]:
        """Every prompt but its last token, into pages."""
        pages = [cache.take(_pages(len(prompt) - 1)) for prompt in prompts]
        each = max(1, MOST_PREFILL // max(len(prompt) for prompt in prompts))
        for first in range(0, len(prompts), each):
            part = [prompt[:-1] for prompt in prompts[first : first + each]]
            longest = max(map(len, part))
            if longest:
                padded = np.zeros((len(part), longest), dtype=np.int64)
                for i, ids in enumerate(part):
                    padded[i, : len(ids)] = ids
                passed = PromptsPass()
                on_device = torch.from_numpy(padded).to(self.shape.device)
                self.model(input_ids=on_device, use_cache=False, prefix=passed)
                cache.write_prompts(passed, pages[first : first + each])
        cache.set_prompts(pages, [len(prompt) - 1 for prompt in prompts])
        return pages

    def _admit(
        self, cache: PagedCache, flights: Flights, flying: Whole, waiting: Whole
    ) -> tuple[Whole, Whole, bool]:
        """Pages for the next tokens of every row; the newest rows wait where there are too few.

        Returns who flies (by prompt), who waits, and whether the device must be told.
        """
        steady = not len(waiting) or len(flying) == cache.rows
        if steady and not flights.lacking(flying, LOOK).any():
            return flying, waiting, False
        longest_first = flying[np.argsort(-flights.count[flying], kind="stable")]
        order = np.concatenate([longest_first, waiting])
        lacking, held = flights.lacking(order, LOOK), flights.held[order]
        fitting = int((np.cumsum(held + lacking) <= len(cache.free) + held.sum()).sum())
        ready, away = np.split(order, [min(fitting, cache.rows)])
        for row in away.tolist():
            cache.give(flights.drop(row))
            flights.restart(row)
        for row, pages in zip(ready.tolist(), lacking.tolist(), strict=False):
            flights.hold(row, cache.take(pages))
        if not len(ready):
            raise MemoryError("the device has no memory for a single response")
        return np.sort(ready), np.sort(away), True

    def _look(
        self, steps: DecodeGraphs, flights: Flights, flying: Whole, count: int
    ) -> tuple[list[tuple[int, str]], bool]:
        """Take the new tokens; which rows have ended and how, and whether any was forced on."""
        tokens, logprobs = steps.fetch(len(flying), count)
        broken = np.isnan(logprobs).any(0)
        if broken.any():
            attempt = flights.slot[flying[broken.argmax()]]
            raise FloatingPointError(f"attempt {attempt}: the logits are not numbers")
        flights.append(flying, tokens, logprobs)
        done = []
        for row in flying[self._ending[tokens].any(0)].tolist():
            if self._cut(flights, row, count):
                done.append((row, "stop"))
        stopped = [row for row, _ in done]
        for row in flying[flights.count[flying] >= flights.limit[flying]].tolist():
            if row not in stopped:
                flights.count[row] = flights.limit[row]
                done.append((row, "length"))
        ended = {row for row, _ in done}
        forced = False
        for row in flying[flights.count[flying] == flights.bound[flying]].tolist():
            forced |= row not in ended and self._force(flights, row)
        return done, forced

    def _cut(self, flights: Flights, row: int, new: int) -> bool:
        """Whether the row ends within its newest tokens; it is cut there."""
        end = int(flights.count[row])
        first, drawn = end - new, flights.mask(row)
        limit = int(flights.limit[row])
        for place in np.flatnonzero(self._ending[flights.ids[row, first:end]]) + first:
            if place < limit and drawn[place] and self._ends_at(flights, row, int(place)):
                flights.count[row] = place + 1
                return True
        return False

    def _ends_at(self, flights: Flights, row: int, place: int) -> bool:
        if int(flights.ids[row, place]) in self.renderer.stop_ids:
            return True
        stop = flights.waves[int(flights.wave[row])].stop
        if not stop:
            return False
        reach = max(len(text.encode()) for text in stop)
        tail = flights.ids[row, max(0, place + 1 - reach) : place + 1].tolist()
        return any(text in self.renderer.decode(tail) for text in stop)

    def _force(self, flights: Flights, row: int) -> bool:
        """The end of phase 1: a row that still thinks is given the tokens that open the answer."""
        ids = flights.ids[row, : int(flights.count[row])].tolist()
        if not self.renderer.answering(ids):
            flights.forced[row] = self.renderer.forced(ids)[:FORCED]
        return row in flights.forced

    def _prepare_stops(self, stop: tuple[str, ...]) -> None:
        """Which tokens can end a response: those that end it, or complete a stop string."""
        key = (stop, self.renderer.stop_ids)
        if self._ending_for == key:
            return
        last = {text[-1] for text in stop}
        ending = np.zeros(self.head.weight.shape[0], dtype=np.bool_)
        if any(ord(letter) > 127 for letter in last):  # may be split between tokens
            ending[:] = True
        elif last:
            texts = self.renderer.texts(len(ending))
            ending[:] = [any(letter in text for letter in last) for text in texts]
        ending[[i for i in self.renderer.stop_ids if i < len(ending)]] = True
        self._ending, self._ending_for = ending, key

    def _response(self, flights: Flights, row: int, finish: str) -> Response:
        count = int(flights.count[row])
        ids = flights.ids[row, :count]
        mask = flights.mask(row)
        return Response(
            attempt_index=int(flights.slot[row]),
            token_ids=ids.astype(np.int32),
            logprobs=flights.logprobs[row, :count].copy(),
            mask=mask,
            text=self.renderer.decode(ids.tolist()),
            finish="stop" if finish == "stop" else "length",
            forced=not mask.all(),
        )


def _pages(tokens: int) -> int:
    return -(-tokens // PAGE)
