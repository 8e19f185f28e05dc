"""Log-probs, and the loss with its gradient, straight from hidden states, in chunks of tokens.

The table tokens x vocabulary never exists: one chunk's logits are turned into its contribution and
dropped. Since the loss is a plain sum over tokens, a token's gradient is known as soon as its
log-prob is, so nothing is computed again in a backward pass:

    loss = - sum_t exp(logp_t - sampled_t) A_t,   d loss / d logp_t = - exp(logp_t - sampled_t) A_t
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from eurekaflow.models.adapter import AdaptedLinear

CHUNK = 128  # tokens whose logits exist at the same time


@torch.no_grad()
def logprobs(head: AdaptedLinear, hidden: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Log-prob of each target, float32 [N]; `hidden` [N, D], `targets` int64 [N]."""
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
    found, gradients = [], []
    for start in range(0, len(targets), CHUNK):
        part = slice(start, start + CHUNK)
        logits = _logits(head, hidden[part], temperature)
        logp, log_total = _logprobs(logits, targets[part])
        slope = -(logp.double() - sampled[part]).exp() * advantage[part] / temperature
        d_logits = logits.sub_(log_total[:, None]).exp_()
        d_logits.mul_(-slope.float()[:, None])
        d_logits.scatter_add_(1, targets[part][:, None], slope.float()[:, None])
        gradients.append(_through_head(head, hidden[part], d_logits))
        found.append(logp)
    return torch.cat(found), torch.cat(gradients)


def _logits(head: AdaptedLinear, hidden: Tensor, temperature: float) -> Tensor:
    logits: Tensor = head(hidden).float()
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
