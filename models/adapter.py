"""The LoRA adapter: frozen linear layers, each with a trained low-rank correction beside it.

y = W x + b + (alpha / r) B (A x), with A [r, in] drawn at random and B [out, r] zero at first. The
adapter is never merged; it is float32 whatever the base is. Its tensors carry PEFT's names, so an
adapter folder opens with `PeftModel.from_pretrained`.

The frozen product is ours because of its speed: on x86 the weight is laid out once for oneDNN
(2x PyTorch's default at 12 rows of float32). The gradient goes to the input only.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

PREFIX = "base_model.model."  # PEFT's
ROWS_HINT = 16  # rows the oneDNN layout is chosen for; any other number works too


class AdaptedLinear(nn.Module):
    """A frozen `nn.Linear` and its adapter; `active` switches the adapter on and off."""

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.weight, self.bias = base.weight, base.bias  # shared, so that tied weights stay tied
        self.weight.requires_grad_(False)
        if self.bias is not None:
            self.bias.requires_grad_(False)
        self.scaling = alpha / rank
        self.active = True
        device = base.weight.device
        self.lora_A = nn.Parameter(torch.zeros(rank, base.in_features, device=device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=device))
        self._packed = _packed(base.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        y = self.frozen(x)
        if not self.active:
            return y
        down, up = self.lora_A.to(x.dtype), self.lora_B.to(x.dtype)
        return y + linear(linear(x, down) * self.scaling, up)

    def frozen(self, x: Tensor) -> Tensor:
        """The base layer alone."""
        if torch.is_grad_enabled() and x.requires_grad:
            return _Frozen.apply(x, self)  # type: ignore[no-any-return, no-untyped-call]
        return self.product(x)

    def product(self, x: Tensor) -> Tensor:
        if self._packed is None:
            return linear(x, self.weight, self.bias)
        return _onednn(x, self._packed, self.bias)


class _Frozen(torch.autograd.Function):
    """A linear layer whose weights take no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: AdaptedLinear) -> Tensor:
        ctx.layer = layer
        return layer.product(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return torch.matmul(grad, ctx.layer.weight), None


def attach(model: nn.Module, *, rank: int, alpha: float) -> dict[str, AdaptedLinear]:
    """Replace every linear layer of a causal language model, the unembedding included.

    Returns the layers by their name in the model, in the model's order.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    found = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    layers = {name: AdaptedLinear(m, rank=rank, alpha=alpha) for name, m in found.items()}
    for name, layer in layers.items():
        model.set_submodule(name, layer)
    return layers


def parameters(layers: dict[str, AdaptedLinear]) -> dict[str, nn.Parameter]:
    """The adapter's parameters by PEFT's names."""
    named: dict[str, nn.Parameter] = {}
    for name, layer in layers.items():
        named[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_A
        named[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_B
    return named


@torch.no_grad()
def reset(layers: dict[str, AdaptedLinear], *, seed: int) -> None:
    """Version 0: A uniform in +-1 / sqrt(in) as PEFT draws it, from `seed`; B zero."""
    generator = torch.Generator().manual_seed(seed)
    for layer in layers.values():
        bound = 1.0 / math.sqrt(layer.lora_A.shape[1])
        drawn = torch.rand(layer.lora_A.shape, generator=generator) * (2 * bound) - bound
        layer.lora_A.copy_(drawn)
        layer.lora_B.zero_()


def untrained(layers: dict[str, AdaptedLinear]) -> bool:
    """Whether the adapter changes nothing: every B is zero, as in version 0."""
    return not any(bool(layer.lora_B.any()) for layer in layers.values())


@contextmanager
def switched_off(layers: dict[str, AdaptedLinear]) -> Iterator[None]:
    """The base model, for as long as the context lasts."""
    for layer in layers.values():
        layer.active = False
    try:
        yield
    finally:
        for layer in layers.values():
            layer.active = True


def peft_config(layers: dict[str, AdaptedLinear], *, rank: int, alpha: float) -> bytes:
    """PEFT's `adapter_config.json` for this adapter."""
    targets = sorted({name.rsplit(".", 1)[-1] for name in layers})
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": targets,
    }
    return json.dumps(fields, indent=2).encode()


def matmul_kind(weight: Tensor) -> str:
    """Which kernel multiplies by frozen weights: decided by platform and dtype alone."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if weight.device.type == "cpu" and x86 and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return "onednn-packed"
    return "torch"


def _packed(weight: Tensor) -> Tensor | None:
    if matmul_kind(weight) != "onednn-packed":
        return None
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS_HINT)  # type: ignore[no-any-return]


def _onednn(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")  # type: ignore[no-any-return]
