"""Attention over packed prompts and responses: exact, differentiable, prompts shared.

The layout is one sequence of tokens: every prompt of a micro-batch, then every response, group by
group. A prompt attends to itself; a response to its group's prompt and to itself, as one softmax.

On CUDA that softmax is two calls of PyTorch's flash attention, one for the prompt's keys and one
for the response's own, merged by their log-sum-exps. The backward pass of either part is given
the merged output and log-sum-exp, which makes its gradients those of the whole softmax (as in
ring attention). The torch reference loops over responses; it also covers windows, sinks and caps.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eurekaflow.models.prefix_attention import Seen, causal

_forward = torch.ops.aten._flash_attention_forward
_backward = torch.ops.aten._flash_attention_backward


class Bounds:
    """Where sequences start and end in a packed dimension: int32 [n + 1] and the longest."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = list(lengths)
        self.longest = max(self.lengths, default=0)
        ends = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int32)
        self.ends = ends
        self.tensor = torch.from_numpy(ends).to(device)


class PackedGroups:
    """Attention of one forward pass over packed prompts and responses, batch 1.

    `prompts`: their lengths; `responses`: lengths of the responses of each prompt. Holds no state
    of a pass, so that activation checkpointing may run a layer twice.
    """

    def __init__(
        self,
        prompts: Sequence[int],
        responses: Sequence[Sequence[int]],
        device: torch.device,
        *,
        flash: bool | None = None,
    ) -> None:
        self.prompt = Bounds(prompts, device)
        self.group = Bounds([sum(lengths) for lengths in responses], device)
        self.response = Bounds([n for lengths in responses for n in lengths], device)
        self.owner = [g for g, lengths in enumerate(responses) for _ in lengths]
        self.flash = device.type == "cuda" if flash is None else flash
        positions = [np.arange(n) for n in prompts]
        for known, lengths in zip(prompts, responses, strict=True):
            positions += [known + np.arange(n) for n in lengths]
        self.positions = torch.from_numpy(np.concatenate(positions)).to(device)

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, seen: Seen
    ) -> Tensor:
        """q [1, H, T, D], k and v [1, K, T, D] -> [1, T, H, D]."""
        if self.flash and seen == Seen() and q.dtype in (torch.bfloat16, torch.float16):
            q, k, v = (x[0].transpose(0, 1).contiguous() for x in (q, k, v))  # [T, H, D]
            out: Tensor = _Flash.apply(q, k, v, self, scale)  # type: ignore[no-untyped-call]
            return out[None]
        return self._reference(q, k, v, scale, seen)

    def _reference(self, q: Tensor, k: Tensor, v: Tensor, scale: float, seen: Seen) -> Tensor:
        known = int(self.prompt.ends[-1])
        outs = [
            causal(q[:, :, a:b], k[:, :, a:b], v[:, :, a:b], scale, seen)
            for a, b in _spans(self.prompt.ends)
        ]
        for owner, (a, b) in zip(self.owner, _spans(known + self.response.ends), strict=True):
            p, e = self.prompt.ends[owner], self.prompt.ends[owner + 1]
            if a == b:
                continue
            keys, values = (torch.cat([x[:, :, p:e], x[:, :, a:b]], dim=2) for x in (k, v))
            queries = torch.cat([q.new_zeros(*q.shape[:2], e - p, q.shape[3]), q[:, :, a:b]], 2)
            outs.append(causal(queries, keys, values, scale, seen)[:, e - p :])
        return torch.cat(outs, dim=1)


class _Flash(torch.autograd.Function):
    """q [T, H, D], k and v [T, K, D] -> [T, H, D]."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: PackedGroups, scale: float
    ) -> Tensor:
        split = int(plan.prompt.ends[-1])
        parts = _parts(plan, split)
        made = [_call(q[a], k[b], v[b], x, y, c, scale) for a, b, x, y, c in parts]
        out, lse = torch.empty_like(q), q.new_empty(q.shape[1], len(q), dtype=torch.float32)
        out[:split], lse[:, :split] = made[0][0], made[0][1]
        if len(q) > split:
            (shared, to_shared), (own, to_own) = (m[:2] for m in made[1:])
            total = torch.logaddexp(to_shared, to_own)
            share = (to_shared - total).exp().t()[..., None]
            out[split:] = torch.lerp(own.float(), shared.float(), share).to(q.dtype)
            lse[:, split:] = total
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.plan, ctx.scale, ctx.random = plan, scale, [m[2:4] for m in made]
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        plan, split = ctx.plan, int(ctx.plan.prompt.ends[-1])
        grad = grad.contiguous()
        dq, dk, dv = (torch.zeros_like(x, dtype=torch.float32) for x in (q, k, v))
        for (a, b, x, y, c), random in zip(_parts(plan, split), ctx.random, strict=True):
            found = _backward(
                grad[a], q[a], k[b], v[b], out[a], lse[:, a].contiguous(), x.tensor, y.tensor,
                x.longest, y.longest, 0.0, c, *random, scale=ctx.scale,
            )  # fmt: skip
            for total, index, part in zip((dq, dk, dv), (a, b, b), found, strict=True):
                total[index] += part
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None, None


def _parts(plan: PackedGroups, split: int) -> list[tuple[slice, slice, Bounds, Bounds, bool]]:
    """Queries, keys, their bounds and causality: prompts, responses to prompts, responses."""
    first, rest = slice(0, split), slice(split, None)
    parts = [(first, first, plan.prompt, plan.prompt, True)]
    if plan.response.longest:
        parts.append((rest, first, plan.group, plan.prompt, False))
        parts.append((rest, rest, plan.response, plan.response, True))
    return parts


def _call(
    q: Tensor, k: Tensor, v: Tensor, x: Bounds, y: Bounds, causal_: bool, scale: float
) -> Sequence[Tensor]:
    found: Sequence[Tensor] = _forward(
        q, k, v, x.tensor, y.tensor, x.longest, y.longest, 0.0, causal_, False, scale=scale
    )
    return found


def _spans(ends: np.ndarray) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in itertools.pairwise(ends)]
