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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

PREFIX = "base_model.model."  # PEFT's
ROWS_HINT = 16  # rows the oneDNN layout is chosen for; any other number works too


class Adapter(nn.Module):
    """A trained low-rank correction, A [r, in] and B [out, r]; `active` switches it on and off."""

    def __init__(
        self, rank: int, inner: int, outer: int, *, scaling: float, device: torch.device
    ) -> None:
        super().__init__()
        self.scaling = scaling
        self.active = True
        self.lora_A = nn.Parameter(torch.zeros(rank, inner, device=device))
        self.lora_B = nn.Parameter(torch.zeros(outer, rank, device=device))
        self._cast: dict[str, tuple[int, Tensor]] = {}

    def cast(self, name: str, dtype: torch.dtype) -> Tensor:
        """A parameter in another precision, converted anew only when it has been written to: a
        decode step would spend an eighth of its time on that."""
        parameter: Tensor = getattr(self, name)
        if parameter.dtype == dtype:
            return parameter.detach()
        version, kept = self._cast.get(name, (-1, parameter))
        if version != parameter._version or kept.dtype != dtype:
            kept = parameter.detach().to(dtype)
            self._cast[name] = parameter._version, kept
        return kept


class AdaptedLinear(Adapter):
    """A frozen `nn.Linear` and its adapter."""

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float) -> None:
        super().__init__(
            rank, base.in_features, base.out_features,
            scaling=alpha / rank, device=base.weight.device,
        )  # fmt: skip
        self.weight, self.bias = base.weight, base.bias  # shared, so that tied weights stay tied
        self.weight.requires_grad_(False)
        if self.bias is not None:
            self.bias.requires_grad_(False)
        self.cap: float | None = None  # of an output head's logits, applied by who reads them
        self.laid_out = LaidOut(base.weight.detach()) if packs(base.weight) else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if not self.active:
            return self.base(x)
        if torch.is_grad_enabled():
            return _Adapted.apply(x, self.lora_A, self.lora_B, self)  # type: ignore[no-any-return, no-untyped-call]
        return self.corrected(x)[0]

    def corrected(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's output, and A x [tokens, r] on the way."""
        low = torch.mm(x.flatten(0, -2), self.cast("lora_A", x.dtype).t())
        up = self.cast("lora_B", x.dtype).t()
        if self.laid_out is not None:
            more = torch.mm(low * self.scaling, up).view(*x.shape[:-1], -1)
            return self.laid_out(x, self.bias, more), low
        y = linear(x, self.weight, self.bias)
        # In place: a sum of two [tokens, out] tensors would be as slow as a tenth of the product.
        y.view(-1, y.shape[-1]).addmm_(low, up, alpha=self.scaling)
        return y, low

    def base(self, x: Tensor) -> Tensor:
        """The frozen layer's output."""
        if self.laid_out is None:
            return linear(x, self.weight, self.bias)
        return self.laid_out(x, self.bias)


class _Adapted(torch.autograd.Function):
    """The layer with gradients for its input and its adapter, and none for frozen weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, down: Tensor, up: Tensor, layer: AdaptedLinear) -> Tensor:
        y, low = layer.corrected(x)
        ctx.layer = layer
        ctx.save_for_backward(x, low, down, up)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, low, down, up = ctx.saved_tensors
        layer: AdaptedLinear = ctx.layer
        flat = grad.flatten(0, -2)
        d_low = torch.mm(flat, up.to(grad.dtype)).mul_(layer.scaling)
        d_down = torch.mm(d_low.t(), x.flatten(0, -2)).to(down.dtype)
        d_up = torch.mm(flat.t(), low).mul_(layer.scaling).to(up.dtype)
        if not ctx.needs_input_grad[0]:
            return None, d_down, d_up, None
        d_x = torch.mm(flat, layer.weight).addmm_(d_low, down.to(grad.dtype))
        return d_x.view(x.shape), d_down, d_up, None


def attach(model: nn.Module, *, rank: int, alpha: float) -> dict[str, Adapter]:
    """Replace every linear layer of a causal language model, the unembedding included.

    Returns the layers by their name in the model, in the model's order.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    found = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    layers: dict[str, Adapter] = {
        name: AdaptedLinear(m, rank=rank, alpha=alpha) for name, m in found.items()
    }
    for name, layer in layers.items():
        model.set_submodule(name, layer)
    return layers


def parameters(layers: dict[str, Adapter]) -> dict[str, nn.Parameter]:
    """The adapter's parameters by PEFT's names."""
    named: dict[str, nn.Parameter] = {}
    for name, layer in layers.items():
        named[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_A
        named[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_B
    return named


@torch.no_grad()
def reset(layers: dict[str, Adapter], *, seed: int) -> None:
    """Version 0: A uniform in +-1 / sqrt(in) as PEFT draws it, from `seed`; B zero."""
    generator = torch.Generator().manual_seed(seed)
    for layer in layers.values():
        bound = 1.0 / math.sqrt(layer.lora_A.shape[1])
        drawn = torch.rand(layer.lora_A.shape, generator=generator) * (2 * bound) - bound
        layer.lora_A.copy_(drawn)
        layer.lora_B.zero_()


def untrained(layers: dict[str, Adapter]) -> bool:
    """Whether the adapter changes nothing: every B is zero, as in version 0."""
    return not any(bool(layer.lora_B.any()) for layer in layers.values())


@contextmanager
def switched_off(layers: dict[str, Adapter]) -> Iterator[None]:
    """The base model, for as long as the context lasts."""
    for layer in layers.values():
        layer.active = False
    try:
        yield
    finally:
        for layer in layers.values():
            layer.active = True


def peft_config(
    layers: dict[str, Adapter], *, rank: int, alpha: float, experts: Sequence[str] = ()
) -> bytes:
    """PEFT's `adapter_config.json` for this adapter; `experts` are its `target_parameters`."""
    linears = [name for name, layer in layers.items() if isinstance(layer, AdaptedLinear)]
    targets = sorted({name.rsplit(".", 1)[-1] for name in linears})
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": targets,
        **({"target_parameters": list(experts)} if experts else {}),
    }
    return json.dumps(fields, indent=2).encode()


def matmul_kind(weight: Tensor) -> str:
    """Which kernel multiplies by frozen weights: decided by processor and dtype alone."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    onednn = torch.ops.mkldnn
    if weight.device.type != "cpu" or not x86 or not hasattr(onednn, "_linear_pointwise"):
        return "torch"
    if weight.dtype == torch.bfloat16 and not onednn._is_mkldnn_bf16_supported():
        return "torch"  # without AVX-512 oneDNN refuses to lay it out
    return "onednn-packed"


def packs(weight: Tensor) -> bool:
    """Whether a weight is multiplied by faster once it is laid out."""
    return matmul_kind(weight) == "onednn-packed"


class LaidOut:
    """A weight [out, in] as oneDNN multiplies by it fastest."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS_HINT)

    def __call__(self, x: Tensor, bias: Tensor | None, more: Tensor | None = None) -> Tensor:
        """x W^T + bias + more, in one go."""
        product = torch.ops.mkldnn._linear_pointwise
        if more is None:
            return product(x, self._weight, bias, "none", [], "")  # type: ignore[no-any-return]
        return product.binary(x, more, self._weight, bias, "add")  # type: ignore[no-any-return]
