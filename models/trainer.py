"""One update of the adapter: base log-probs, shaped advantages, summed loss, Adam.

Base log-probs are computed like the trained ones, with the adapter off. An adapter that changes
nothing (version 0) is the base model: there the sampler's log-probs are taken for the base's.
Formulas and sources stand in `entropic.py`; the importance ratio corrects the mismatch of sampler
and trainer only, since the data are on-policy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from eurekaflow.models.adapter import AdaptedLinear, Adapter, parameters, switched_off, untrained
from eurekaflow.models.entropic import importance_loss, mean_log_ratio, shape_kl
from eurekaflow.models.group_pass import GroupPass, TrainedTokens
from eurekaflow.models.policy import TrainedGroup, UpdateSettings
from eurekaflow.models.step_pass import StepPass

Batch = list[list[TrainedTokens]]  # by group, by response
State = dict[str, dict[str, torch.Tensor]]  # parameter name -> Adam's tensors


class Trainer:
    """Updates an adapter in place; owns its Adam state.

    `decoder` maps token ids to hidden states, `head` hidden states to logits; `layers` are all
    adapted layers, the head included.
    """

    def __init__(
        self, decoder: nn.Module, head: AdaptedLinear, layers: dict[str, Adapter]
    ) -> None:
        self.layers = layers
        self.parameters = parameters(layers)
        self.in_turn, self.together = GroupPass(decoder, head), StepPass(decoder, head)
        self.decoder, self.cuda = decoder, head.weight.device.type == "cuda"
        # On a CPU neither fused nor foreach: the order of operations must not depend on the build.
        self.adam = torch.optim.Adam(self.parameters.values(), fused=self.cuda, foreach=False)

    def update(self, groups: Sequence[TrainedGroup], settings: UpdateSettings) -> dict[str, float]:
        """One optimizer step per substep over `groups`; returns the metrics.

        A pure function of (weights, Adam state, groups, settings). Micro-batches accumulate to
        exactly the sum over all tokens.
        """
        clock: dict[str, float] = {}
        groups = _kept(groups, settings)
        batch: Batch = [[TrainedTokens.of(r) for r in group.responses] for group in groups]
        with _timed(clock, "base_pass_s"):
            self._base(groups, batch, settings)
        _shape(batch, settings)
        norm = 0.0
        for chunk in _chunks(len(groups), settings.substeps):
            with _timed(clock, "forward_backward_s"):
                self._gradients([groups[i] for i in chunk], [batch[i] for i in chunk], settings)
                norm = max(norm, self._norm())
            with _timed(clock, "optimizer_s"):
                self._step(settings)
        return {**_metrics(batch), "grad_norm": norm, **clock}

    def state(self) -> State:
        """Adam's state by parameter name; empty before the first update."""
        found = ((name, self.adam.state.get(p)) for name, p in self.parameters.items())
        return {name: dict(state) for name, state in found if state}

    def restore(self, state: State) -> None:
        """Take over a saved state; an empty one is that of version 0."""
        self.adam.state.clear()
        for name, tensors in state.items():
            own = self.parameters[name]  # fused Adam wants its step counter there too
            self.adam.state[own] = {key: tensor.to(own.device) for key, tensor in tensors.items()}

    def _base(
        self, groups: Sequence[TrainedGroup], batch: Batch, settings: UpdateSettings
    ) -> None:
        if settings.kl == 0 or untrained(self.layers):
            return
        with switched_off(self.layers):
            self._pass(settings).base(groups, batch, settings)

    def _gradients(
        self, groups: Sequence[TrainedGroup], batch: Batch, settings: UpdateSettings
    ) -> None:
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.zero_()
        with _checkpointing(self.decoder, on=settings.checkpointing):
            self._pass(settings).train(groups, batch, settings)

    def _pass(self, settings: UpdateSettings) -> GroupPass | StepPass:
        """Group by group, or packed: on CUDA, and wherever a packed setting was chosen."""
        chosen = settings.checkpointing or settings.micro_tokens is not None
        return self.together if self.cuda or chosen else self.in_turn

    def _norm(self) -> float:
        grads = [p.grad for p in self.parameters.values() if p.grad is not None]
        squares = [grad.double().square().sum() for grad in grads]
        if self.cuda:  # one transfer instead of one per tensor
            return math.sqrt(float(torch.stack(squares).sum()))
        return math.sqrt(sum(float(square) for square in squares))

    def _step(self, settings: UpdateSettings) -> None:
        for group in self.adam.param_groups:
            group["lr"] = settings.lr
            group["betas"] = (settings.beta1, settings.beta2)
            group["eps"] = settings.eps
        self.adam.step()
        # Fused Adam writes unseen by the counters that `Adapter` goes by.
        torch.autograd.graph.increment_version(list(self.parameters.values()))


def _kept(groups: Sequence[TrainedGroup], settings: UpdateSettings) -> list[TrainedGroup]:
    """Without KL, an attempt of advantage 0 contributes nothing and is left out."""
    if settings.kl != 0:
        return list(groups)
    return [
        TrainedGroup(
            prompt_ids=group.prompt_ids,
            responses=tuple(r for r in group.responses if r.advantage != 0),
        )
        for group in groups
    ]


def _shape(batch: Batch, settings: UpdateSettings) -> None:
    """Centres the KL over the whole batch; leaves each token's advantage on its response."""
    every = [tokens for group in batch for tokens in group]
    if not every:
        return
    flat = shape_kl(
        _flat(t.sampled for t in every),
        _flat(t.base for t in every),
        _flat(np.ones(len(t.places)) for t in every),
        _flat(np.full(len(t.places), t.response.advantage) for t in every),
        coef=settings.kl,
    )
    ends = np.cumsum([len(t.places) for t in every])
    for tokens, part in zip(every, np.split(flat, ends[:-1]), strict=True):
        tokens.advantage = part


def _metrics(batch: Batch) -> dict[str, float]:
    every = [tokens for group in batch for tokens in group]
    sampled, base = _flat(t.sampled for t in every), _flat(t.base for t in every)
    train, advantage = _flat(t.train for t in every), _flat(t.advantage for t in every)
    ones, count = np.ones(len(sampled)), max(len(sampled), 1)
    gap = train - sampled
    return {
        "loss": importance_loss(train, sampled, advantage, ones),
        "kl_policy_base": mean_log_ratio(sampled, base, ones),
        "logprob_gap_mean": float(gap.sum() / count),
        "logprob_gap_half_mean_square": float(0.5 * (gap * gap).sum() / count),
        "logprob_gap_max": float(np.abs(gap).max(initial=0.0)),
        "negative_logprob_mean": float(-sampled.sum() / count),
        "tokens": float(len(sampled)),
    }


def _chunks(groups: int, substeps: int) -> list[list[int]]:
    """Contiguous parts in group order, at most one per group and at least one in all."""
    parts = np.array_split(np.arange(groups), max(1, min(substeps, groups)))
    return [part.tolist() for part in parts]


def _flat(parts: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts])


@contextmanager
def _checkpointing(decoder: Any, *, on: bool) -> Iterator[None]:
    """Layers keep their input only and are computed again in the backward pass."""
    if not on:
        yield
        return
    enable = getattr(decoder, "activation_checkpointing_enable", None)
    disable = getattr(decoder, "activation_checkpointing_disable", None)
    (enable or decoder.gradient_checkpointing_enable)({"use_reentrant": False})
    decoder.train()  # transformers checkpoints in training mode only; there is no dropout
    try:
        yield
    finally:
        decoder.eval()
        (disable or decoder.gradient_checkpointing_disable)()


@contextmanager
def _timed(clock: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    clock[name] = clock.get(name, 0.0) + time.perf_counter() - start
