"""The entropic objective: adaptive beta, leave-one-out advantages, KL shaping, summed loss.

Source: "Learning to Discover at Test Time", arXiv 2601.16175. For one parent s,

    J_beta(s) = log E_{a ~ pi(.|s)} [exp(beta R(s, a))]

whose policy gradient weights every log-prob gradient by w = exp(beta R) / E[exp(beta R)]; with
baseline 1 the advantage is w - 1. Paper symbol -> name here: beta -> `beta`, delta -> `KL_TARGET`,
q_beta -> the tilted distribution in `_tilt`, A -> `advantages`, lambda -> `coef`.

Everything is float64 and pure numpy; `shape_kl` and `importance_loss` work on the tokens of one
batch, flat or sequence by sequence. Sum reduction is part of the method: Adam's eps only matters
relative to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from eurekaflow.models.token_batches import (
    Advantage,
    Flat,
    Float64,
    Nested,
    Tokens,
    flatten,
    spread,
)

Estimator = Literal["entropic_adaptive", "entropic", "mean_baseline", "none"]

KL_TARGET = math.log(2.0)  # delta
BETA_CAP = 1e6  # doubling stops once beta passes it, so the largest beta is 2**20
BISECTIONS = 60
EPSILON = 1e-12  # guards the leave-one-out normaliser
FIXED_BETA = 2.0  # of the `entropic` estimator


def solve_beta(rewards: npt.ArrayLike) -> tuple[float, float]:
    """The beta at which the tilted group lies `KL_TARGET` nats from uniform.

    `rewards`: one group, shape [n], any n >= 1. Returns (beta, achieved KL in nats). With fewer
    than two rewards beta is 0; where the target cannot be reached (half the group or more tied at
    the top) beta is 2**20. Raises ValueError on an empty or non-finite group.
    """
    r = _group(rewards)
    if r.size < 2:
        return 0.0, 0.0
    gap = r - r.max()
    low, high = 0.0, 1.0
    while high < BETA_CAP and _tilt_kl(high, gap) < KL_TARGET:
        high *= 2.0
    if _tilt_kl(high, gap) < KL_TARGET:
        return high, _tilt_kl(high, gap)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        if _tilt_kl(middle, gap) < KL_TARGET:
            low = middle
        else:
            high = middle
    return high, _tilt_kl(high, gap)


def advantages(
    rewards: npt.ArrayLike,
    *,
    estimator: Estimator = "entropic_adaptive",
    beta: float | None = None,
) -> Float64:
    """Advantages of one group, float64 [n].

    `entropic_adaptive`: leave-one-out exponential weights at the solved beta; `entropic`: the same
    at a constant beta (2.0 unless given); `mean_baseline`: r - mean(r); `none`: zeros. A given
    `beta` overrides the solved one. The sum is not zero: a lone winner's is positive and large.
    """
    r = _group(rewards)
    if estimator == "none":
        return np.zeros_like(r)
    if estimator == "mean_baseline":
        return np.asarray(r - r.mean())
    if estimator == "entropic":
        return _leave_one_out(r, FIXED_BETA if beta is None else beta)
    if estimator == "entropic_adaptive":
        return _leave_one_out(r, solve_beta(r)[0] if beta is None else beta)
    raise ValueError(f"unknown estimator {estimator!r}")


def constant(rewards: npt.ArrayLike) -> bool:
    """Whether every reward of the group is exactly equal: such a group is not trained."""
    r = _group(rewards)
    return bool(np.all(r == r[0]))


@overload
def shape_kl(
    sampled: Flat, base: Tokens, mask: Tokens, advantage: Advantage, *, coef: float
) -> Float64: ...
@overload
def shape_kl(
    sampled: Nested, base: Tokens, mask: Tokens, advantage: Advantage, *, coef: float
) -> list[Float64]: ...
def shape_kl(
    sampled: Tokens, base: Tokens, mask: Tokens, advantage: Advantage, *, coef: float
) -> Float64 | list[Float64]:
    """Token advantages with the KL to the base model centred over the batch.

    `sampled` and `base` are log-probs, `mask` is 1 where a token is trained and 0 where not: what
    stands there counts nowhere, NaN included. The fields cover the same tokens of the whole batch
    in one of three forms: a flat array [T], an array [B, T] of B sequences, or B sequences of any
    lengths. The result has the form of `sampled`. `advantage` holds one number a token or one a
    sequence; for a flat batch, one a token or one for all.

    With d = sampled - base and its mean over mask-1 tokens, the result is
    (advantage + coef (mean - d)) mask: forced tokens get 0, and the shaping sums to zero over the
    batch. Raises ValueError for other shapes and other masks.
    """
    (s, b, m), layout = flatten(sampled=sampled, base=base, mask=mask)
    a, on = spread(advantage, layout), _trained(m)
    d = s[on] - b[on]
    shaped = np.zeros(s.size)
    shaped[on] = a[on] + coef * (_mean(d) - d)
    return layout.restore(shaped)


def mean_log_ratio(sampled: Tokens, base: Tokens, mask: Tokens) -> float:
    """Mean of sampled - base log-probs over mask-1 tokens: the reported `kl_policy_base`."""
    (s, b, m), _ = flatten(sampled=sampled, base=base, mask=mask)
    on = _trained(m)
    return _mean(s[on] - b[on])


def importance_loss(train: Tokens, sampled: Tokens, advantage: Advantage, mask: Tokens) -> float:
    """The loss: - sum over tokens of exp(train - sampled) advantage mask, unclipped.

    Shapes as in `shape_kl`, whose result is the `advantage` here. The ratio corrects the mismatch
    between sampler and trainer only, since the data are on-policy.
    """
    (t, s, m), layout = flatten(train=train, sampled=sampled, mask=mask)
    a, on = spread(advantage, layout), _trained(m)
    return float(-(np.exp(t[on] - s[on]) * a[on]).sum())


def _trained(mask: Float64) -> npt.NDArray[np.bool_]:
    on = mask == 1
    if not (on | (mask == 0)).all():
        raise ValueError("mask holds 1 (trained) and 0 only")
    return np.asarray(on)


def _mean(values: Float64) -> float:
    return float(values.sum() / values.size) if values.size else 0.0


def _group(rewards: npt.ArrayLike | Sequence[float]) -> Float64:
    r = np.asarray(rewards, dtype=np.float64)
    if r.ndim != 1 or r.size == 0 or not np.isfinite(r).all():
        raise ValueError("rewards must be a non-empty 1-D array of finite numbers")
    return r


def _tilt_kl(beta: float, gap: Float64) -> float:
    """KL(q || uniform) of q = softmax(beta gap), where gap = r - max r."""
    logits = beta * gap
    log_q = logits - math.log(float(np.exp(logits).sum()))
    q = np.exp(log_q)
    return float(np.where(q > 0, q * (log_q + math.log(gap.size)), 0.0).sum())


def _leave_one_out(r: Float64, beta: float) -> Float64:
    e = np.exp(beta * (r - r.max()))
    z = (e.sum() - e) / (r.size - 1) if r.size > 1 else e
    return np.asarray(e / (z + EPSILON) - 1.0)
