"""One decode step of a model on CUDA: hidden states of every row's newest token, and logits.

Any model whose attention is `eureka_prefix` can take the step through its own modules. For the
Llama kind (Llama, Qwen2, Qwen3) the step is written out: the linear layers that read one input are
one matrix product, the adapters' A among them, and what lies between is one launch each.

Adapters are bfloat16 copies of the trained float32 ones, refreshed in place when the version
changes; they are never merged. The fused weights take no second copy of the base: a module's
weight becomes a part of the fused one. Only the output head is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from eurekaflow.models.adapter import AdaptedLinear
from eurekaflow.models.fused_loss import capped, float_product
from eurekaflow.models.paged_attention import PagedPass
from eurekaflow.models.prefix_attention import Seen

LLAMA_KIND = {"LlamaModel", "Qwen2Model", "Qwen3Model"}


class Decoder(Protocol):
    """Hidden states [R, width] of one token per row; `refresh` takes over trained adapters."""

    def __call__(self, ids: Tensor, positions: Tensor, attention: PagedPass) -> Tensor: ...

    def refresh(self) -> None: ...


class ModuleDecoder:
    """Through the model's own modules."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, ids: Tensor, positions: Tensor, attention: PagedPass) -> Tensor:
        out = self.model(
            input_ids=ids[:, None],
            position_ids=positions[:, None],
            use_cache=False,
            prefix=attention,
        )
        hidden: Tensor = out.last_hidden_state[:, 0]
        return hidden

    def refresh(self) -> None:
        """Nothing to do: the modules read the trained adapters."""


class FusedLinear:
    """Linear layers of one input as one product: rows of W and of the adapters' A below it."""

    def __init__(self, layers: Sequence[AdaptedLinear]) -> None:
        self.layers = layers
        self.width = sum(layer.weight.shape[0] for layer in layers)
        downs = [layer.lora_A.detach().to(layer.weight.dtype) for layer in layers]
        self.weight = torch.cat([*(layer.weight.detach() for layer in layers), *downs])
        start = 0
        for layer in layers:  # the module reads the fused weight: one copy of the base
            end = start + layer.weight.shape[0]
            layer.weight.data = self.weight[start:end]
            start = end
        self.bias = self._bias()
        ranks = self.weight.shape[0] - self.width
        self.up = self.weight.new_zeros(self.width, ranks)
        self.refresh()

    def __call__(self, x: Tensor) -> Tensor:
        """[R, in] -> [R, width + ranks]; the columns up to `width` are the layers' outputs."""
        y = self.product(x)
        y[:, : self.width].addmm_(y[:, self.width :], self.up.t())
        return y

    def product(self, x: Tensor) -> Tensor:
        """The same before the adapters' B are added."""
        if self.bias is None:
            return torch.mm(x, self.weight.t())
        return torch.addmm(self.bias, x, self.weight.t())

    @torch.no_grad()
    def refresh(self) -> None:
        row, column = 0, 0
        for layer in self.layers:
            out, rank = layer.lora_B.shape
            below = self.width + column
            self.weight[below : below + rank].copy_(layer.lora_A)
            self.up[row : row + out, column : column + rank].copy_(layer.lora_B * layer.scaling)
            row, column = row + out, column + rank

    def _bias(self) -> Tensor | None:
        if all(layer.bias is None for layer in self.layers):
            return None
        bias = self.weight.new_zeros(self.weight.shape[0])
        start = 0
        for layer in self.layers:
            if layer.bias is not None:
                bias[start : start + layer.weight.shape[0]] = layer.bias.detach()
            start += layer.weight.shape[0]
        return bias


class FusedHead:
    """The output head with its adapter as one product, logits float32 [R, V]."""

    def __init__(self, head: AdaptedLinear) -> None:
        self.head = head
        low = head.lora_B.detach().to(head.weight.dtype)
        self.weight = torch.cat([head.weight.detach(), low], dim=1)  # [V, width + r]
        self.down = head.lora_A.detach().to(head.weight.dtype)
        self.refresh()

    def __call__(self, hidden: Tensor) -> Tensor:
        x = torch.cat([hidden, torch.mm(hidden, self.down.t())], dim=1)
        return capped(self.head, float_product(x, self.weight.t()))

    @torch.no_grad()
    def refresh(self) -> None:
        self.down.copy_(self.head.lora_A)
        self.weight[:, self.down.shape[1] :].copy_(self.head.lora_B * self.head.scaling)


class LlamaLayer:
    """A transformer layer of the Llama kind; `linear` makes one product of several layers'."""

    def __init__(self, layer: Any, linear: Callable[[Sequence[AdaptedLinear]], Any]) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.before, self.between = layer.input_layernorm, layer.post_attention_layernorm
        self.qkv = linear([attention.q_proj, attention.k_proj, attention.v_proj])
        self.o = linear([attention.o_proj])
        self.gate_up = linear([mlp.gate_proj, mlp.up_proj])
        self.down = linear([mlp.down_proj])
        self.scale = float(attention.scaling)
        self.window = getattr(attention, "sliding_window", None)
        self.norms: tuple[Tensor, Tensor, float] | None = None
        if hasattr(attention, "q_norm"):
            norm = attention.q_norm
            self.norms = (norm.weight, attention.k_norm.weight, float(norm.variance_epsilon))

    def refresh(self) -> None:
        for part in (self.qkv, self.o, self.gate_up, self.down):
            part.refresh()


class LlamaDecoder:
    """The step written out for models of the Llama kind."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.layers = [LlamaLayer(layer, FusedLinear) for layer in model.layers]
        self.heads = int(model.config.num_attention_heads)

    def refresh(self) -> None:
        for layer in self.layers:
            layer.refresh()

    def __call__(self, ids: Tensor, positions: Tensor, attention: PagedPass) -> Tensor:
        from eurekaflow.models.layer_kernels import add_norm, gate

        x = embedding(ids, self.model.embed_tokens.weight)
        cos, sin = self.model.rotary_emb(x, positions[:, None])
        cos, sin = cos[:, 0].contiguous(), sin[:, 0].contiguous()
        more: Tensor | None = None
        for index, layer in enumerate(self.layers):
            normed = add_norm(x, more, layer.before.weight, layer.before.variance_epsilon)
            attended = self._attend(index, layer, layer.qkv(normed), cos, sin, attention)
            more = layer.o(attended)
            normed = add_norm(x, more, layer.between.weight, layer.between.variance_epsilon)
            more = layer.down(gate(layer.gate_up.product(normed), layer.gate_up.up))
        norm = self.model.norm
        return add_norm(x, more, norm.weight, norm.variance_epsilon)

    def _attend(
        self,
        index: int,
        layer: LlamaLayer,
        qkv: Tensor,
        cos: Tensor,
        sin: Tensor,
        attention: PagedPass,
    ) -> Tensor:
        from eurekaflow.models.layer_kernels import rotate_store

        keys, values = attention.cache.keys[index], attention.cache.values[index]
        q = rotate_store(
            qkv, cos, sin, keys, values, attention.page, attention.offset,
            heads=self.heads, norms=layer.norms,
        )  # fmt: skip
        return attention.read(index, q, layer.scale, Seen(layer.window)).flatten(1)


def decoder_of(model: Any) -> Decoder:
    """The fastest step there is for this model; it may fuse the model's weights."""
    return LlamaDecoder(model) if of_llama_kind(model) else ModuleDecoder(model)


def of_llama_kind(model: Any) -> bool:
    """Whether the step can be written out."""
    adapted = all(isinstance(m, AdaptedLinear) for m in _linears(model))
    silu = getattr(model.config, "hidden_act", "") == "silu"
    return type(model).__name__ in LLAMA_KIND and silu and adapted


def _linears(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, (nn.Linear, AdaptedLinear))]
