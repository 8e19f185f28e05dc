"""Samples a wave: many responses of one prompt at once, the prompt computed a single time.

Rows advance in lockstep, one token each per forward pass, so all have the same length and no mask
is needed. A finished row is handed out and leaves the batch at once. What a row's bits depend on
besides its own counters, the shapes of the batches it was part of, is a pure function of the wave.

Two-phase waves (a bound on thinking): at the bound, a row that has not opened its final answer is
made to: the renderer's tokens are fed one per pass like sampled ones, with log-prob 0 and mask 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from eurekaflow.models.counters import uniforms
from eurekaflow.models.fused_loss import capped
from eurekaflow.models.kernels import draw
from eurekaflow.models.llama_forward import forward_of
from eurekaflow.models.policy import Response, Wave
from eurekaflow.models.prefix_attention import DecodePass, PromptPass
from eurekaflow.models.renderer import Renderer

SAFETY = 50  # tokens of the context window that stay unused


@dataclass
class Row:
    """A response in the making."""

    attempt_index: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    pending: deque[int] = field(default_factory=deque)  # forced tokens still to be fed
    forced: bool = False


class WaveSampler:
    """Samples waves with a model whose attention is `eureka_prefix`."""

    def __init__(self, decoder: nn.Module, head: nn.Module, renderer: Renderer) -> None:
        self.head, self.renderer = head, renderer
        self.device = next(decoder.parameters()).device
        self.forward = forward_of(decoder)

    def sample(self, wave: Wave) -> Iterator[Response]:
        """Responses in the order in which they finish, ties by slot.

        Raises ValueError where the prompt leaves no room in the window or in phase 1.
        """
        limit, bound = limits(wave)
        rows = [Row(attempt_index=slot) for slot in wave.slots]
        state, logits = self._prefill(wave)
        while True:
            self._take(wave, rows, logits, position=state.length)
            if state.length + 1 == bound:
                self._force(rows)
            done = [self._finish(wave, row, limit) for row in rows]
            for row, finish in zip(rows, done, strict=True):
                if finish:
                    yield self._response(row, finish)
            alive = [i for i, finish in enumerate(done) if not finish]
            if not alive:
                return
            if len(alive) < len(rows):
                rows = [rows[i] for i in alive]
                state.keep(alive)
            logits = self._forward(wave, rows, state)

    @torch.no_grad()
    def _prefill(self, wave: Wave) -> tuple[DecodePass, Tensor]:
        """The prompt's keys and values, and the logits of the first token, the same for all."""
        self.forward.refresh()
        prompt = PromptPass()
        ids = torch.tensor([wave.prompt_ids], device=self.device)
        hidden = self.forward(ids, torch.arange(ids.shape[1], device=self.device), prompt)
        logits = capped(self.head, self.head(hidden).float())
        rows = len(wave.slots)
        return DecodePass(prompt, rows), logits.expand(rows, -1).clone()

    @torch.no_grad()
    def _forward(self, wave: Wave, rows: Sequence[Row], state: DecodePass) -> Tensor:
        """Feeds each row's newest token; logits of the next, float32 [R, V]."""
        ids = torch.tensor([[row.ids[-1]] for row in rows], device=self.device)
        position = torch.tensor([len(wave.prompt_ids) + state.length], device=self.device)
        hidden = self.forward(ids, position, state)
        state.advance()
        return capped(self.head, self.head(hidden).float())

    @torch.no_grad()
    def _take(self, wave: Wave, rows: Sequence[Row], logits: Tensor, *, position: int) -> None:
        """Appends one token to every row: the next forced one, else a sampled one."""
        uniform = uniforms(
            run_seed=wave.run_seed,
            step=wave.step,
            group=wave.group_index,
            attempts=[row.attempt_index for row in rows],
            position=position,
        )
        drawn = torch.from_numpy(uniform).to(logits.device)
        ids, logprobs = draw(logits, drawn, temperature=wave.temperature)
        for row, token, logprob in zip(rows, ids.tolist(), logprobs.tolist(), strict=True):
            _append(row, token, logprob)

    def _force(self, rows: Sequence[Row]) -> None:
        """The end of phase 1: rows that still think are given the tokens that open the answer."""
        for row in rows:
            if row.ids[-1] in self.renderer.stop_ids or self.renderer.answering(row.ids):
                continue
            row.pending.extend(self.renderer.forced(row.ids))
            row.forced = bool(row.pending)

    def _finish(self, wave: Wave, row: Row, limit: int) -> str:
        """Why the row ends here: "stop", "length", or "" while it goes on."""
        if row.mask[-1] and (row.ids[-1] in self.renderer.stop_ids or self._stopped(wave, row)):
            return "stop"
        return "length" if len(row.ids) >= limit else ""

    def _stopped(self, wave: Wave, row: Row) -> bool:
        """Whether the newest token completed a stop string.

        A string of n bytes ends in the newest token, hence lies within the last n tokens.
        """
        if not wave.stop:
            return False
        reach = max(len(stop.encode()) for stop in wave.stop)
        tail = self.renderer.decode(row.ids[-reach:])
        return any(stop in tail for stop in wave.stop)

    def _response(self, row: Row, finish: str) -> Response:
        return Response(
            attempt_index=row.attempt_index,
            token_ids=np.asarray(row.ids, dtype=np.int32),
            logprobs=np.asarray(row.logprobs, dtype=np.float32),
            mask=np.asarray(row.mask, dtype=np.bool_),
            text=self.renderer.decode(row.ids),
            finish="stop" if finish == "stop" else "length",
            forced=row.forced,
        )


def _append(row: Row, token: int, logprob: float) -> None:
    if row.pending:
        row.ids.append(row.pending.popleft())
        row.logprobs.append(0.0)
        row.mask.append(False)
        return
    if logprob != logprob:
        raise FloatingPointError(f"attempt {row.attempt_index}: the logits are not numbers")
    row.ids.append(token)
    row.logprobs.append(logprob)
    row.mask.append(True)


def limits(wave: Wave) -> tuple[int, int | None]:
    """Most tokens of a response, and the end of phase 1 where that comes earlier."""
    prompt = len(wave.prompt_ids)
    limit = min(wave.max_new_tokens, wave.window - prompt - SAFETY)
    bound = None if wave.phase1_tokens is None else wave.phase1_tokens - prompt
    if limit < 1 or (bound is not None and bound < 1):
        raise ValueError(
            f"a prompt of {prompt} tokens leaves no room: window {wave.window}, "
            f"phase 1 {wave.phase1_tokens}"
        )
    return limit, bound if bound is not None and bound < limit else None
