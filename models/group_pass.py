"""Training passes over one group: its prompt once, its responses in micro-batches.

Each micro-batch leaves its gradient in the prompt's keys and values (and in the prompt's last
hidden state, which predicts every first token); one backward pass through the prompt then takes
their sum. The result equals that of separate sequences, at a fraction of the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eurekaflow.models import fused_loss
from eurekaflow.models.adapter import AdaptedLinear
from eurekaflow.models.policy import TrainedGroup, TrainedResponse, UpdateSettings
from eurekaflow.models.prefix_attention import PackedPass, PromptPass
from eurekaflow.models.token_batches import Float64


@dataclass
class TrainedTokens:
    """The mask-1 tokens of a response; the arrays hold one entry for each of them."""

    response: TrainedResponse
    places: npt.NDArray[np.int64]  # where in the response
    sampled: Float64  # the sampler's log-probs
    base: Float64  # the base model's; the sampler's until they are computed
    advantage: Float64  # shaped; zero until it is
    train: Float64  # the trainer's log-probs; the sampler's until they are computed

    @classmethod
    def of(cls, response: TrainedResponse) -> TrainedTokens:
        places = np.flatnonzero(response.mask)
        sampled = response.logprobs[places].astype(np.float64)
        return cls(response, places, sampled, sampled, np.zeros(len(places)), sampled)


@dataclass
class _Prompt:
    """A prompt after its forward pass: what responses attend to, and what predicts them."""

    keys: Sequence[Tensor]  # per layer [K, P, D]
    values: Sequence[Tensor]
    last: Tensor  # [1, hidden]


class GroupPass:
    """Forward and backward over groups with a model whose attention is `eureka_prefix`."""

    def __init__(self, decoder: nn.Module, head: AdaptedLinear) -> None:
        self.decoder, self.head = decoder, head
        self.device = head.weight.device

    def base(
        self,
        groups: Sequence[TrainedGroup],
        batch: Sequence[Sequence[TrainedTokens]],
        settings: UpdateSettings,
    ) -> None:
        """Fills in `base`; the caller has switched the adapter off."""
        for group, tokens in zip(groups, batch, strict=True):
            self._base_group(group, tokens, settings)

    def train(
        self,
        groups: Sequence[TrainedGroup],
        batch: Sequence[Sequence[TrainedTokens]],
        settings: UpdateSettings,
    ) -> None:
        """Adds the groups' gradient to the adapter; fills in `train`."""
        for group, tokens in zip(groups, batch, strict=True):
            self._train_group(group, tokens, settings)

    @torch.no_grad()
    def _base_group(
        self, group: TrainedGroup, tokens: Sequence[TrainedTokens], settings: UpdateSettings
    ) -> None:
        prompt = self._prompt(group)
        for part in _micro_batches(tokens, settings.micro_batch):
            hidden = self._hidden(prompt, part)
            logp = fused_loss.logprobs(
                self.head, hidden, self._targets(part), settings.temperature
            )
            for one, found in by_response(logp, part):
                one.base = found

    def _train_group(
        self, group: TrainedGroup, tokens: Sequence[TrainedTokens], settings: UpdateSettings
    ) -> None:
        parts = list(_micro_batches(tokens, settings.micro_batch))
        if not parts:
            return
        prompt = self._prompt(group)
        leaf = _detached(prompt)
        for part in parts:
            self._train_part(leaf, part, settings)
        pairs = zip(_tensors(prompt), _tensors(leaf), strict=True)
        reached = [(made, copy.grad) for made, copy in pairs if copy.grad is not None]
        torch.autograd.backward([made for made, _ in reached], [grad for _, grad in reached])

    def _train_part(
        self, prompt: _Prompt, part: Sequence[TrainedTokens], settings: UpdateSettings
    ) -> None:
        hidden = self._hidden(prompt, part)
        logp, gradient = fused_loss.backward(
            self.head,
            hidden.detach(),
            self._targets(part),
            self._tensor(np.concatenate([one.sampled for one in part])),
            self._tensor(np.concatenate([one.advantage for one in part])),
            temperature=settings.temperature,
        )
        hidden.backward(gradient)  # type: ignore[no-untyped-call]
        for one, found in by_response(logp, part):
            one.train = found

    def _prompt(self, group: TrainedGroup) -> _Prompt:
        seen = PromptPass()
        ids = torch.tensor([group.prompt_ids], device=self.device)
        hidden = self.decoder(input_ids=ids, use_cache=False, prefix=seen).last_hidden_state
        return _Prompt(seen.keys, seen.values, hidden[0, -1:])

    def _hidden(self, prompt: _Prompt, part: Sequence[TrainedTokens]) -> Tensor:
        """Hidden states that predict the trained tokens of a micro-batch, [N, hidden].

        A response's inputs are its tokens before the last trained one; the first token is
        predicted by the prompt.
        """
        inputs = [one.response.token_ids[: one.places[-1]] for one in part]
        lengths = [len(ids) for ids in inputs]
        states = [prompt.last]
        if any(lengths):
            states.append(self._packed(prompt, inputs))
        starts = np.cumsum([0, *lengths[:-1]])
        index = [
            np.where(one.places > 0, start + one.places, 0)
            for one, start in zip(part, starts, strict=True)
        ]
        return torch.cat(states).index_select(0, self._tensor(np.concatenate(index)))

    def _packed(self, prompt: _Prompt, inputs: Sequence[npt.NDArray[np.int32]]) -> Tensor:
        """One forward pass over all inputs, packed: [sum of lengths, hidden]."""
        rows = [ids for ids in inputs if len(ids)]
        shared = PackedPass(prompt.keys, prompt.values, [len(ids) for ids in rows])
        start = prompt.keys[0].shape[1]
        hidden: Tensor = self.decoder(
            input_ids=self._tensor(np.concatenate(rows).astype(np.int64))[None],
            position_ids=(start + shared.within)[None],
            use_cache=False,
            prefix=shared,
        ).last_hidden_state[0]
        return hidden

    def _targets(self, part: Sequence[TrainedTokens]) -> Tensor:
        ids = [one.response.token_ids[one.places] for one in part]
        return self._tensor(np.concatenate(ids).astype(np.int64))

    def _tensor(self, array: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def _micro_batches(tokens: Sequence[TrainedTokens], size: int) -> list[list[TrainedTokens]]:
    """Contiguous parts of `size` responses; responses without a trained token are left out."""
    some = [one for one in tokens if len(one.places)]
    return [some[i : i + size] for i in range(0, len(some), size)]


def by_response(
    logp: Tensor, part: Sequence[TrainedTokens]
) -> Iterator[tuple[TrainedTokens, Float64]]:
    """The log-probs of each response of a micro-batch."""
    flat = logp.double().cpu().numpy()
    ends = np.cumsum([len(one.places) for one in part])
    return zip(part, np.split(flat, ends[:-1]), strict=True)


def _tensors(prompt: _Prompt) -> list[Tensor]:
    return [*prompt.keys, *prompt.values, prompt.last]


def _detached(prompt: _Prompt) -> _Prompt:
    """The same tensors as leaves that collect gradients."""
    keys, values = (
        [t.detach().requires_grad_() for t in part] for part in (prompt.keys, prompt.values)
    )
    return _Prompt(keys, values, prompt.last.detach().requires_grad_())
