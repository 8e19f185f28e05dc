"""The sampler's forward pass on a CPU, written out for models of the Llama kind.

Through a model's own modules a decode step of 32 rows is some 1,700 operations, and those that
are not the weights' products take as long as these. Here the linear layers of one input are one
product, and little is left between. Any other model is asked through its modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import embedding, silu

from eurekaflow.models.adapter import AdaptedLinear, LaidOut, packs
from eurekaflow.models.decode_step import LlamaLayer, of_llama_kind
from eurekaflow.models.prefix_attention import Pass, Seen

ORDER = 2  # of sums and roundings: where that changes, the same random numbers give other tokens


class Forward(Protocol):
    """ids [B, T] at positions [T] -> hidden states [B, width] of every row's last token."""

    def __call__(self, ids: Tensor, positions: Tensor, attention: Pass) -> Tensor: ...

    def refresh(self) -> None: ...


class ModuleForward:
    """Through the model's own modules."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, ids: Tensor, positions: Tensor, attention: Pass) -> Tensor:
        out = self.model(
            input_ids=ids, position_ids=positions[None], use_cache=False, prefix=attention
        )
        hidden: Tensor = out.last_hidden_state[:, -1]
        return hidden

    def refresh(self) -> None:
        """Nothing to do: the modules read the trained adapters."""


class JoinedLinear:
    """Linear layers of one input as one product, [W, alpha/r B] [x, A x]: W one below the other, B
    along the diagonal. That costs what W x does; laying it out anew, once a version, less than it
    gains in a hundred tokens."""

    def __init__(self, layers: Sequence[AdaptedLinear]) -> None:
        self.layers = layers
        self.bias: Tensor | None = None
        if any(layer.bias is not None for layer in layers):
            empty = [layer.weight.new_zeros(len(layer.weight)) for layer in layers]
            pairs = zip(layers, empty, strict=True)
            self.bias = torch.cat([e if m.bias is None else m.bias.detach() for m, e in pairs])
        self._versions: tuple[int, ...] = ()
        for layer in layers:
            layer.laid_out = None  # one copy is enough; the other passes have many tokens

    def __call__(self, x: Tensor) -> Tensor:
        """[R, in] -> [R, the layers' outputs one after another]."""
        return self.both(torch.cat([x, torch.mm(x, self.down)], dim=1), self.bias)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the adapters, if they have been written to."""
        versions = tuple(p._version for layer in self.layers for p in layer.parameters())
        if versions == self._versions:
            return
        dtype = self.layers[0].weight.dtype
        self.down = torch.cat([layer.lora_A for layer in self.layers]).to(dtype).t()
        inner, ranks = self.down.shape
        rows = sum(len(layer.weight) for layer in self.layers)
        both, row, column = torch.empty(rows, inner + ranks, dtype=dtype), 0, inner
        both[:, inner:] = 0
        for layer in self.layers:
            out, rank = layer.lora_B.shape
            both[row : row + out, :inner] = layer.weight
            both[row : row + out, column : column + rank] = layer.lora_B * layer.scaling
            row, column = row + out, column + rank
        self.both, self._versions = LaidOut(both), versions


class LlamaForward:
    """Written out."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.layers = [LlamaLayer(layer, JoinedLinear) for layer in model.layers]
        self.heads = int(model.config.num_attention_heads)

    def refresh(self) -> None:
        """Take over trained adapters."""
        for layer in self.layers:
            layer.refresh()

    def __call__(self, ids: Tensor, positions: Tensor, attention: Pass) -> Tensor:
        x = embedding(ids, self.model.embed_tokens.weight).flatten(0, 1)  # [B T, width]
        cos, sin = self._turn(x, positions)
        for index, layer in enumerate(self.layers):
            parts = layer.qkv(_norm(x, layer.before)).view(*ids.shape, -1, cos.shape[-1])
            q, k, v = self._turned(layer, parts, cos, sin)
            seen = Seen(layer.window)
            x = x + layer.o(attention.attend(index, q, k, v, layer.scale, seen).view(len(x), -1))
            gate, up = layer.gate_up(_norm(x, layer.between)).chunk(2, dim=1)
            x = x + layer.down(silu(gate).mul_(up))
        return _norm(x.view(*ids.shape, -1)[:, -1], self.model.norm)

    def _turn(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Of rotary embeddings: cosines, and sines with the sign of what they are multiplied by;
        [T, 1, D] each."""
        cos, sin = self.model.rotary_emb(x, positions[None])
        sin[..., : sin.shape[-1] // 2].neg_()
        return cos[0][:, None], sin[0][:, None]

    def _turned(
        self, layer: LlamaLayer, parts: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, H + 2 K, D] -> queries [B, H, T, D], keys and values [B, K, T, D]."""
        groups = (parts.shape[2] - self.heads) // 2
        both = parts[:, :, :-groups]
        if layer.norms is not None:
            q_weight, k_weight, epsilon = layer.norms
            q = _normed(both[:, :, : self.heads], q_weight, epsilon)
            k = _normed(both[:, :, self.heads :], k_weight, epsilon)
            both = torch.cat([q, k], dim=2)
        both = (both * cos).add_(both.roll(cos.shape[-1] // 2, -1).mul_(sin))
        q, k = both[:, :, : self.heads], both[:, :, self.heads :]
        return q.transpose(1, 2), k.transpose(1, 2), parts[:, :, -groups:].transpose(1, 2)


def _norm(x: Tensor, norm: Any) -> Tensor:
    return _normed(x, norm.weight, norm.variance_epsilon)


def _normed(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root mean square normalisation as the models' own, float32 inside."""
    wide = x.float()
    scale = wide.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
    return (wide * scale).to(x.dtype).mul_(weight)


def forward_of(model: Any) -> Forward:
    """The fastest there is here for this model; it takes over the layout of its weights."""
    if of_llama_kind(model) and packs(model.layers[0].mlp.up_proj.weight):
        return LlamaForward(model)
    return ModuleForward(model)
