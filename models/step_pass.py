"""Training passes over many groups at once, for devices that want much work per launch.

A micro-batch packs prompts and responses of several groups into one sequence without padding, as
many as fit a number of tokens; each prompt is computed once per micro-batch. How many tokens fit
is taken from the free memory, and halved when that proves too many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from eurekaflow.models import fused_loss
from eurekaflow.models.adapter import AdaptedLinear, Adapter
from eurekaflow.models.flash_attention import PackedGroups
from eurekaflow.models.forecast import activation_bytes
from eurekaflow.models.group_pass import TrainedTokens, by_response
from eurekaflow.models.policy import TrainedGroup, UpdateSettings

MEMORY_SHARE = 0.6  # of the free memory, for activations of one micro-batch
SMALLEST = 256  # tokens of a micro-batch below which running out of memory is an error
UNBOUNDED = 2**31  # tokens, where memory is not asked

Batch = Sequence[Sequence[TrainedTokens]]


@dataclass(frozen=True)
class Part:
    """What one micro-batch holds of one group."""

    prompt_ids: tuple[int, ...]
    tokens: tuple[TrainedTokens, ...]

    @property
    def lengths(self) -> list[int]:
        """Input tokens of each response: those before its last trained one."""
        return [int(one.places[-1]) for one in self.tokens]

    @property
    def size(self) -> int:
        return len(self.prompt_ids) + sum(self.lengths)


class StepPass:
    """Forward and backward over the groups of a step; attention must be `eureka_prefix`."""

    def __init__(self, decoder: nn.Module, head: AdaptedLinear) -> None:
        self.decoder, self.head = decoder, head
        self.device = head.weight.device
        self._most: int | None = None  # tokens of a micro-batch, once memory has been too small

    def base(self, groups: Sequence[TrainedGroup], batch: Batch, settings: UpdateSettings) -> None:
        """Fills in `base`; the caller has switched the adapter off."""

        def one(parts: Sequence[Part]) -> None:
            with torch.no_grad():
                hidden = self._hidden(parts)
                found = fused_loss.logprobs(
                    self.head, hidden, self._targets(parts), settings.temperature
                )
            for tokens, values in by_response(found, _tokens(parts)):
                tokens.base = values

        self._each(groups, batch, settings, one, learning=False)

    def train(
        self, groups: Sequence[TrainedGroup], batch: Batch, settings: UpdateSettings
    ) -> None:
        """Puts the groups' gradient into the adapter's `.grad`; fills in `train`."""

        def one(parts: Sequence[Part]) -> None:
            hidden = self._hidden(parts)
            every = _tokens(parts)
            logp, gradient = fused_loss.backward(
                self.head,
                hidden.detach(),
                self._targets(parts),
                self._tensor(np.concatenate([x.sampled for x in every])),
                self._tensor(np.concatenate([x.advantage for x in every])),
                temperature=settings.temperature,
            )
            hidden.backward(gradient)  # type: ignore[no-untyped-call]
            for tokens, values in by_response(logp, every):
                tokens.train = values

        self._each(groups, batch, settings, one, learning=True)

    def _each(
        self,
        groups: Sequence[TrainedGroup],
        batch: Batch,
        settings: UpdateSettings,
        one: Callable[[Sequence[Part]], None],
        *,
        learning: bool,
    ) -> None:
        """Every micro-batch; all of them again, with half the tokens, when memory runs out."""
        most = self._tokens_that_fit(settings, learning=learning)
        while True:
            try:
                self._zero()
                for parts in packed(groups, batch, most):
                    one(parts)
                return
            except torch.cuda.OutOfMemoryError:
                if most <= SMALLEST:
                    raise
            largest = max(sum(part.size for part in p) for p in packed(groups, batch, most))
            most = max(SMALLEST, min(most, largest) // 2)
            if learning:
                self._most = most
            torch.cuda.empty_cache()

    def _zero(self) -> None:
        """Nothing of an attempt that ran out of memory may stay."""
        for module in [*self.decoder.modules(), self.head]:
            if isinstance(module, Adapter):
                for parameter in (module.lora_A, module.lora_B):
                    if parameter.grad is not None:
                        parameter.grad.zero_()

    def _tokens_that_fit(self, settings: UpdateSettings, *, learning: bool) -> int:
        if settings.micro_tokens is not None:
            return settings.micro_tokens
        if self.device.type != "cuda":
            return UNBOUNDED
        free = torch.cuda.mem_get_info(self.device)[0]
        held = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        each = activation_bytes(
            self.decoder.config, learning=learning, checkpointing=settings.checkpointing
        )
        fitting = max(SMALLEST, int(MEMORY_SHARE * (free + held)) // each)
        return fitting if self._most is None or not learning else min(fitting, self._most)

    def _hidden(self, parts: Sequence[Part]) -> Tensor:
        """Hidden states that predict the trained tokens, [N, width]."""
        prompts = [len(part.prompt_ids) for part in parts]
        plan = PackedGroups(prompts, [part.lengths for part in parts], self.device)
        inputs = [np.asarray(part.prompt_ids, dtype=np.int64) for part in parts]
        inputs += [x.response.token_ids[: x.places[-1]].astype(np.int64) for x in _tokens(parts)]
        hidden: Tensor = self.decoder(
            input_ids=self._tensor(np.concatenate(inputs))[None],
            position_ids=plan.positions[None],
            use_cache=False,
            prefix=plan,
        ).last_hidden_state[0]
        return hidden.index_select(0, self._tensor(_sources(parts)))

    def _targets(self, parts: Sequence[Part]) -> Tensor:
        ids = [x.response.token_ids[x.places] for x in _tokens(parts)]
        return self._tensor(np.concatenate(ids).astype(np.int64))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def packed(groups: Sequence[TrainedGroup], batch: Batch, most: int) -> list[list[Part]]:
    """Micro-batches of at most `most` tokens, in group order; one response always fits."""
    micro: list[list[Part]] = []
    room = 0
    for group, every in zip(groups, batch, strict=True):
        waiting = [one for one in every if len(one.places)]
        while waiting:
            needed = len(group.prompt_ids) + int(waiting[0].places[-1])
            if not micro or needed > room:
                micro.append([])
                room = most
            taken = [waiting.pop(0)]
            room -= needed
            while waiting and int(waiting[0].places[-1]) <= room:
                room -= int(waiting[0].places[-1])
                taken.append(waiting.pop(0))
            micro[-1].append(Part(group.prompt_ids, tuple(taken)))
    return micro


def _tokens(parts: Sequence[Part]) -> list[TrainedTokens]:
    return [one for part in parts for one in part.tokens]


def _sources(parts: Sequence[Part]) -> np.ndarray:
    """For each trained token the packed place of the token before it."""
    last = np.cumsum([len(part.prompt_ids) for part in parts]) - 1
    start = int(last[-1]) + 1
    found = []
    for part, end in zip(parts, last, strict=True):
        for one in part.tokens:
            found.append(np.where(one.places > 0, start + one.places - 1, end))
            start += int(one.places[-1])
    return np.concatenate(found)
