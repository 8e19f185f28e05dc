"""Attention over a prompt that many rows share: its keys and values exist once.

Registered with transformers as `eureka_prefix`, so Qwen2, Qwen3 and Llama models use it unchanged.
A forward pass says what it is by the keyword `prefix`, which reaches every attention layer:

- `PromptPass`: the prompt itself (batch 1), causal; its keys and values are kept per layer;
- `DecodePass`: one new token of each row against the prompt and the row's own cache;
- `PackedPass`: whole responses of one group, packed without padding into batch 1, for training.
  Gradients reach the prompt's keys and values.

The last two take one softmax over prompt and own tokens. Without `prefix` attention is causal.
A layer may see a window of the newest tokens only, and may have attention sinks: one logit per
head that takes part in the softmax and adds nothing. Its scores may be capped.
Symbols in shapes: R rows, T packed tokens, L longest row, P prompt tokens, H query heads, K key
heads, G = H / K, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import AttentionInterface

NAME = "eureka_prefix"


class Seen(NamedTuple):
    """What is peculiar to a layer's softmax over the visible keys."""

    window: int | None = None  # a key is seen by queries less than that many tokens later
    sinks: Tensor | None = None  # [H]
    cap: float | None = None  # of the scores

    def capped(self, scores: Tensor) -> Tensor:
        """Scores pressed smoothly between -cap and cap, before any is masked."""
        return scores if self.cap is None else soft_cap(scores, self.cap)


def soft_cap(x: Tensor, cap: float) -> Tensor:
    """cap tanh(x / cap)."""
    return torch.tanh(x / cap) * cap


class Pass(Protocol):
    """How one forward pass attends."""

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, seen: Seen
    ) -> Tensor:
        """q [B, H, T, D], k and v [B, K, T, D] -> [B, T, H, D]."""


class PromptPass:
    """The prompt, batch 1: remembers keys and values [K, P, D] of every layer."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, seen: Seen
    ) -> Tensor:
        if layer != len(self.keys):
            raise RuntimeError(f"attention layer {layer} ran, but {len(self.keys)} was next")
        self.keys.append(k[0].contiguous())
        self.values.append(v[0].contiguous())
        return causal(q, k, v, scale, seen)


class DecodePass:
    """One token of every row; own keys live in a buffer [K, R, D, capacity] per layer, own values
    in one of [K, R, capacity, D].

    All rows have the same length, so that no mask is needed. `length` counts the tokens already in
    the buffer; the caller calls `advance` after each forward pass and `keep` to drop rows.
    """

    GROWTH = 64  # tokens added to the capacity at once

    def __init__(self, prompt: PromptPass, rows: int) -> None:
        self.prompt_keys = [k.transpose(-1, -2) for k in prompt.keys]  # [K, D, P]
        self.prompt_values = prompt.values
        self.rows = rows
        self.length = 0
        self._keys = [_buffer(k.transpose(1, 2), rows, self.GROWTH, 2) for k in prompt.keys]
        self._values = [_buffer(v, rows, self.GROWTH, 1) for v in prompt.values]

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, seen: Seen
    ) -> Tensor:
        rows, heads, _, size = q.shape
        groups = k.shape[1]
        keys, values = self._store(layer, k, v)  # [K R, D, n], [K R, n, D]
        q = (q * scale).view(rows, groups, -1, size).transpose(0, 1)
        q = q.reshape(groups, -1, size)  # [K, R G, D]
        shared = torch.bmm(q, self.prompt_keys[layer])  # [K, R G, P]
        own = torch.bmm(q.view(groups * rows, -1, size), keys)  # [K R, G, n]
        split, count = shared.shape[-1], own.shape[-1]
        shared, own = shared.view(groups, rows, -1, split), own.view(groups, rows, -1, count)
        shared, own = seen.capped(shared), seen.capped(own)
        if seen.window is not None:
            hidden = max(0, split + self.length + 1 - seen.window)  # the oldest tokens
            shared[..., :hidden] = float("-inf")
            own[..., : max(0, hidden - split)] = float("-inf")
        sinks = None if seen.sinks is None else seen.sinks.view(groups, 1, -1, 1)
        weights = _softmax(shared, own, q.dtype, sinks)  # [K, R, G, P + n]
        by_group = weights.view(groups, -1, weights.shape[-1])
        by_row = weights.view(groups * rows, -1, weights.shape[-1])
        out = torch.bmm(by_group[..., :split], self.prompt_values[layer])  # [K, R G, D]
        out = out.view(groups * rows, -1, size)
        out = out + torch.bmm(by_row[..., split : split + count], values)
        out = out.view(groups, rows, -1, size).transpose(0, 1)
        return out.reshape(rows, 1, heads, size)

    def advance(self) -> None:
        self.length += 1

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, in this order."""
        index = torch.tensor(rows, dtype=torch.long, device=self._keys[0].device)
        self._keys = [k.index_select(1, index) for k in self._keys]
        self._values = [v.index_select(1, index) for v in self._values]
        self.rows = len(rows)

    def _store(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Own keys [K R, D, n] and values [K R, n, D], the newest among them."""
        if self.length == self._keys[layer].shape[3]:
            self._keys[layer] = _grown(self._keys[layer], self.GROWTH, 3)
            self._values[layer] = _grown(self._values[layer], self.GROWTH, 2)
        keys, values = self._keys[layer].flatten(0, 1), self._values[layer].flatten(0, 1)
        keys[:, :, self.length] = k[:, :, 0].transpose(0, 1).flatten(0, 1)
        values[:, self.length] = v[:, :, 0].transpose(0, 1).flatten(0, 1)
        end = self.length + 1
        return keys[:, :, :end], values[:, :end]


class PackedPass:
    """Responses of one group packed one after another: batch 1, T = sum of `lengths`.

    Linear layers see no padding; only the attention scores of a row's own tokens are padded to the
    longest row. `keys` and `values`: the prompt's, per layer, [K, P, D].
    """

    def __init__(
        self, keys: Sequence[Tensor], values: Sequence[Tensor], lengths: Sequence[int]
    ) -> None:
        self.keys, self.values = keys, values
        self.rows, self.longest = len(lengths), max(lengths)
        device = keys[0].device
        steps = torch.arange(self.longest)
        starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
        inside = steps[None] < torch.tensor(lengths)[:, None]  # [R, L]
        self._pad = torch.where(inside, starts[:, None] + steps, 0).flatten().to(device)
        self._pack = inside.flatten().nonzero().flatten().to(device)
        self.within = steps.expand(self.rows, -1)[inside].to(device)  # [T] position in the row
        future = steps[None] > steps[:, None]  # [L, L]
        self._future = torch.zeros(future.shape).masked_fill(future, float("-inf")).to(device)

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, seen: Seen
    ) -> Tensor:
        heads, groups, size = q.shape[1], k.shape[1], q.shape[-1]
        rows, longest = self.rows, self.longest
        keys = self._padded(k).view(groups, rows, longest, size)
        values = self._padded(v).view(groups, rows, longest, size)
        q = self._padded(q * scale).view(groups, heads // groups, rows, longest, size)
        q = q.transpose(1, 2)  # [K, R, G, L, D]
        flat = q.reshape(groups, -1, size)
        shared = torch.bmm(flat, self.keys[layer].transpose(-1, -2))  # [K, R G L, P]
        shared = shared.view(*q.shape[:-1], -1)
        own = torch.matmul(q, keys.transpose(-1, -2).unsqueeze(2))
        shared, own = seen.capped(shared), seen.capped(own) + self._future.to(q.dtype)
        split = shared.shape[-1]
        if seen.window is not None:
            hidden = self._beyond(split, seen.window)  # [L, P + L]
            shared = shared.masked_fill(hidden[:, :split], float("-inf"))
            own = own.masked_fill(hidden[:, split:], float("-inf"))
        sinks = None if seen.sinks is None else seen.sinks.view(groups, 1, -1, 1, 1)
        weights = _softmax(shared, own, q.dtype, sinks)  # [K, R, G, L, P + L]
        prompt = weights[..., :split].reshape(groups, -1, split)
        out = torch.bmm(prompt, self.values[layer]).view(q.shape)
        out = out + torch.matmul(weights[..., split : split + longest], values.unsqueeze(2))
        out = out.permute(1, 3, 0, 2, 4).reshape(rows * longest, heads, size)
        return out.index_select(0, self._pack).unsqueeze(0)

    def _beyond(self, prompt: int, window: int) -> Tensor:
        """[L, P + L]: whether a key is too old for a query of a response."""
        places = torch.arange(prompt + self.longest, device=self.within.device)
        return places[None, :] <= places[prompt:, None] - window

    def _padded(self, x: Tensor) -> Tensor:
        """[1, H, T, D] -> [H, R L, D]; what fills the padding is masked by causality."""
        return x[0].index_select(1, self._pad)


def _softmax(
    shared: Tensor, own: Tensor, dtype: torch.dtype, sinks: Tensor | None = None
) -> Tensor:
    parts = [shared, own]
    if sinks is not None:
        parts.append(sinks.to(own.dtype).expand(*own.shape[:-1], 1))
    return torch.cat(parts, dim=-1).softmax(-1, dtype=torch.float32).to(dtype)


def _buffer(like: Tensor, rows: int, capacity: int, along: int) -> Tensor:
    """Room for every row, of the shape of `like` [K, ...] but for its size `along`."""
    shape = [like.shape[0], rows, *like.shape[1:]]
    shape[along + 1] = capacity
    return like.new_zeros(shape)


def _grown(buffer: Tensor, by: int, along: int) -> Tensor:
    shape = list(buffer.shape)
    shape[along] = by
    return torch.cat([buffer, buffer.new_zeros(shape)], dim=along)


def causal(q: Tensor, k: Tensor, v: Tensor, scale: float, seen: Seen) -> Tensor:
    """Whole sequences without padding on the left: [B, H, T, D] -> [B, T, H, D]."""
    several = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(several, 1), v.repeat_interleave(several, 1)
    if seen == Seen():
        out = scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, scale=scale)
        return out.transpose(1, 2)
    places = torch.arange(q.shape[2], device=q.device)
    apart = places[:, None] - places[None, :]
    hidden = (apart < 0) | (apart >= (seen.window or len(places)))
    scores = seen.capped(torch.matmul(q * scale, k.transpose(-1, -2)))
    scores = scores.masked_fill(hidden, float("-inf"))
    sinks = None if seen.sinks is None else seen.sinks.view(1, -1, 1, 1)
    weights = _softmax(scores[..., :0], scores, q.dtype, sinks)
    return torch.matmul(weights[..., : len(places)], v).transpose(1, 2)


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    prefix: Pass | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    seen = Seen(kwargs.get("sliding_window"), kwargs.get("s_aux"), kwargs.get("softcap"))
    if prefix is None:
        return causal(query, key, value, scale, seen), None
    return prefix.attend(int(module.layer_idx), query, key, value, scale, seen), None  # type: ignore[arg-type]


AttentionInterface.register(NAME, _attention)
