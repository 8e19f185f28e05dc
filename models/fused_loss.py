"""Log-probs, and the loss with its gradient, straight from hidden states, in chunks of tokens.

The table tokens x vocabulary never exists: one chunk's logits are turned into its contribution and
dropped. Since the loss is a plain sum over tokens, a token's gradient is known as soon as its
log-prob is, so nothing is computed again in a backward pass:

    loss = - sum_t exp(logp_t - sampled_t) A_t,   d loss / d logp_t = - exp(logp_t - sampled_t) A_t
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from eurekaflow.models.adapter import AdaptedLinear
from eurekaflow.models.prefix_attention import soft_cap

CHUNK = 128  # tokens whose logits exist at the same time
CUDA_CHUNK = 1024


@torch.no_grad()
def logprobs(head: AdaptedLinear, hidden: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Log-prob of each target, float32 [N]; `hidden` [N, D], `targets` int64 [N]."""
    if hidden.device.type == "cuda":
        return _cuda_logprobs(head, hidden, targets, temperature)
    parts = [
        _logprobs(_logits(head, h, temperature), t)[0]
        for h, t in zip(torch.split(hidden, CHUNK), torch.split(targets, CHUNK), strict=True)
    ]
    return torch.cat(parts)


@torch.no_grad()
def backward(
    head: AdaptedLinear,
    hidden: Tensor,
    targets: Tensor,
    sampled: Tensor,
    advantage: Tensor,
    *,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Adds the loss' gradient to the head's adapter; returns log-probs and the hidden gradient.

    `hidden` [N, D]; `targets` int64 [N]; `sampled` and `advantage` float64 [N]. Returns log-probs
    float32 [N] and d loss / d hidden [N, D].
    """
    if hidden.device.type == "cuda":
        rule = _Slope(sampled, advantage, temperature)
        return _cuda_backward(head, hidden, targets, rule, temperature)
    found, gradients = [], []
    for start in range(0, len(targets), CHUNK):
        part = slice(start, start + CHUNK)
        logits = _logits(head, hidden[part], temperature)
        logp, log_total = _logprobs(logits, targets[part])
        flat = _cap_slope(head, logits, temperature)
        slope = _Slope(sampled[part], advantage[part], temperature)(logp)
        d_logits = logits.sub_(log_total[:, None]).exp_()
        d_logits.mul_(-slope[:, None])
        d_logits.scatter_add_(1, targets[part][:, None], slope[:, None])
        if flat is not None:
            d_logits.mul_(flat)
        gradients.append(_through_head(head, hidden[part], d_logits))
        found.append(logp)
    return torch.cat(found), torch.cat(gradients)


class _Slope(NamedTuple):
    """d loss / d logit of the target, before the softmax: float32 [n] from log-probs [n]."""

    sampled: Tensor
    advantage: Tensor
    temperature: float

    def __call__(self, logp: Tensor, part: slice = slice(None)) -> Tensor:
        ratio = (logp.double() - self.sampled[part]).exp()
        return (-ratio * self.advantage[part] / self.temperature).float()


def _wide(head: AdaptedLinear, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs [N, D + r] and weights [V, D + r] whose product is head and adapter in one."""
    if not head.active:
        return hidden, head.weight
    dtype = head.weight.dtype
    low = torch.mm(hidden, head.lora_A.to(dtype).t())
    up = (head.lora_B * head.scaling).to(dtype)
    return torch.cat([hidden, low], dim=1), torch.cat([head.weight, up], dim=1)


def _cuda_logprobs(
    head: AdaptedLinear, hidden: Tensor, targets: Tensor, temperature: float
) -> Tensor:
    from eurekaflow.models.logit_kernels import row_logprobs

    x, weight = _wide(head, hidden)
    parts = [
        row_logprobs(capped(head, float_product(h, weight.t())), t, temperature=temperature)[0]
        for h, t in zip(torch.split(x, CUDA_CHUNK), torch.split(targets, CUDA_CHUNK), strict=True)
    ]
    return torch.cat(parts)


def _cuda_backward(
    head: AdaptedLinear, hidden: Tensor, targets: Tensor, slope: _Slope, temperature: float
) -> tuple[Tensor, Tensor]:
    from eurekaflow.models.logit_kernels import logit_gradient, row_logprobs

    x, weight = _wide(head, hidden)
    width, dtype = hidden.shape[1], weight.dtype
    down, up = head.lora_A, head.lora_B
    assert down.grad is not None
    assert up.grad is not None
    found = torch.empty(len(x), device=x.device)
    gradient = torch.empty_like(x)
    for start in range(0, len(targets), CUDA_CHUNK):
        part = slice(start, start + CUDA_CHUNK)
        logits = capped(head, float_product(x[part], weight.t()))
        logp, total = row_logprobs(logits, targets[part], temperature=temperature)
        d_logits = logit_gradient(
            logits, targets[part], total, slope(logp, part), temperature=temperature, dtype=dtype
        )
        if (flat := _cap_slope(head, logits)) is not None:
            d_logits.mul_(flat)
        found[part] = logp
        gradient[part] = torch.mm(d_logits, weight)
        up.grad.add_(float_product(d_logits.t(), x[part, width:]), alpha=head.scaling)
    d_low = gradient[:, width:]
    down.grad.add_(float_product(d_low.t(), hidden))
    return found, gradient[:, :width].addmm(d_low, down.to(dtype))


def capped(head: nn.Module, logits: Tensor) -> Tensor:
    """The logits of a head, pressed between its caps where the model has some."""
    cap = getattr(head, "cap", None)
    return logits if cap is None else soft_cap(logits, cap)


def _cap_slope(head: AdaptedLinear, logits: Tensor, temperature: float = 1.0) -> Tensor | None:
    """d capped / d logit, from capped logits over the temperature."""
    return None if head.cap is None else 1.0 - (logits * (temperature / head.cap)).square()


def float_product(x: Tensor, y: Tensor) -> Tensor:
    """x y in float32, without rounding the result to the inputs' dtype first."""
    if x.device.type == "cuda" and x.dtype != torch.float32:
        return torch.mm(x, y, out_dtype=torch.float32)
    return torch.mm(x.float(), y.float())


def _logits(head: AdaptedLinear, hidden: Tensor, temperature: float) -> Tensor:
    logits = capped(head, head(hidden).float())
    return logits if temperature == 1.0 else logits.div_(temperature)


def _logprobs(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probs of the targets and the log-normalisers, both float32 [n]."""
    top = logits.amax(-1, keepdim=True)
    log_total = (logits - top).exp_().sum(-1).log() + top[:, 0]
    return logits.gather(1, targets[:, None])[:, 0] - log_total, log_total


def _through_head(head: AdaptedLinear, hidden: Tensor, d_logits: Tensor) -> Tensor:
    """d loss / d hidden; the adapter's gradients are added to `.grad`."""
    x, down, up = hidden.float(), head.lora_A, head.lora_B
    assert down.grad is not None
    assert up.grad is not None
    up.grad.addmm_(d_logits.t(), linear(x, down), alpha=head.scaling)
    d_low = torch.mm(d_logits, up) * head.scaling  # [n, r]
    down.grad.addmm_(d_low.t(), x)
    d_hidden = torch.mm(d_logits.to(head.weight.dtype), head.weight)
    return d_hidden + torch.mm(d_low, down).to(d_hidden.dtype)
