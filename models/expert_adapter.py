"""LoRA on a mixture's experts, whose weights are three-dimensional parameters and no layers.

For expert e: y = x W_e + (alpha / r) (x A_e') B_e', added to the outputs and never to the weights.
The tensors lie as PEFT's `target_parameters` keeps them: A [E r, in] expert after expert, B
[out, r E] with the expert running fastest; the two parameters of a module are nested, the inner
one named `base_layer`. No dropout. Plain torch, expert after expert: correct and slow, and the
host is asked which experts were chosen, so the decode step is not captured.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from eurekaflow.models.adapter import Adapter

UP, DOWN = "gate_up_proj", "down_proj"  # the parameters, in the order of use
INNER = "base_layer"  # PEFT's name for the first of them


class ExpertAdapter(Adapter):
    """The correction of one parameter [E, in, out] or [E, out, in] of a module of experts."""

    def __init__(self, weight: Tensor, *, transposed: bool, rank: int, alpha: float) -> None:
        experts, first, second = weight.shape
        inner, outer = (first, second) if transposed else (second, first)
        super().__init__(experts * rank, inner, outer, scaling=alpha / rank, device=weight.device)
        self.experts, self.rank = experts, rank

    def corrected(self, y: Tensor, x: Tensor, expert: int) -> Tensor:
        """y [tokens, out] of an expert's inputs x [tokens, in], with the correction."""
        if not self.active:
            return y
        down = self.lora_A.view(self.experts, self.rank, -1)[expert].to(x.dtype)
        up = self.lora_B.view(-1, self.rank, self.experts)[..., expert].to(x.dtype)
        return y + linear(linear(x, down), up) * self.scaling


class AdaptedExperts(nn.Module):
    """A module of experts with both its parameters adapted."""

    def __init__(self, base: Any, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base
        size: dict[str, Any] = {
            "transposed": bool(base.is_transposed), "rank": rank, "alpha": alpha
        }  # fmt: skip
        self.up = ExpertAdapter(getattr(base, UP), **size)
        self.down = ExpertAdapter(getattr(base, DOWN), **size)

    def forward(self, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """hidden [tokens, width], chosen and weights [tokens, k] -> [tokens, width]."""
        out = torch.zeros_like(hidden)
        for expert in sorted(set(chosen.flatten().tolist())):
            if expert >= self.up.experts:  # says that a place is not used
                continue
            token, place = torch.where(chosen == expert)
            x = hidden[token]
            gated = self.base._apply_gate(self._part(UP, self.up, x, expert))
            y = self._part(DOWN, self.down, gated, expert)
            out = out.index_add(0, token, (y * weights[token, place, None]).to(out.dtype))
        return out

    def _part(self, name: str, adapter: ExpertAdapter, x: Tensor, expert: int) -> Tensor:
        weight = getattr(self.base, name)[expert]
        y = x @ weight if self.base.is_transposed else linear(x, weight)
        if self.base.has_bias:
            y = y + getattr(self.base, f"{name}_bias")[expert]
        return adapter.corrected(y, x, expert)


def attach(model: nn.Module, *, rank: int, alpha: float) -> dict[str, Adapter]:
    """Adapt every module of experts; the adapters by PEFT's names, none where there are none."""
    found = {name: module for name, module in model.named_modules() if _has_experts(module)}
    adapters: dict[str, Adapter] = {}
    for name, module in found.items():
        adapted = AdaptedExperts(module, rank=rank, alpha=alpha)
        model.set_submodule(name, adapted)
        adapters |= {f"{name}.{INNER}": adapted.up, name: adapted.down}
    return adapters


def targets(layers: dict[str, Adapter]) -> list[str]:
    """What PEFT calls `target_parameters` for these adapters."""
    modules = {
        ".".join(name.removesuffix(f".{INNER}").split(".")[-2:])
        for name, layer in layers.items()
        if isinstance(layer, ExpertAdapter)
    }
    return [f"{module}.{name}" for module in sorted(modules) for name in (UP, DOWN)]


def _has_experts(module: nn.Module) -> bool:
    """Whether it holds the two parameters, computes as written here and can be adapted."""
    shapes = [getattr(getattr(module, name, None), "ndim", 0) for name in (UP, DOWN)]
    known = all(hasattr(module, name) for name in ("is_transposed", "has_bias", "_apply_gate"))
    plain = getattr(module, "has_gate", True) and not getattr(module, "has_post_expert_norm", 0)
    return shapes == [3, 3] and known and bool(plain)
