"""Small models of published evaluators, faithful in what they check and in which precision."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np


def erdos(h: Any, claimed: float, n_points: int) -> float:
    """The accepted score: the claim, when it is close to what the arrays as given amount to."""
    if not isinstance(h, np.ndarray):
        h = np.array(h, dtype=np.float64)
    if h.shape != (n_points,) or np.any(h < 0) or np.any(h > 1):
        raise ValueError("h is not in [0, 1]")
    target, total = n_points / 2, np.sum(h)
    if total != target:
        h = h * (target / total)
        if np.any(h < 0) or np.any(h > 1):
            raise ValueError("h is not in [0, 1] after rescaling")
    computed = np.max(np.correlate(h, 1.0 - h, mode="full")) * 2.0 / n_points
    if not np.isclose(computed, claimed, rtol=1e-5, atol=1e-4):
        raise ValueError(f"claimed {claimed}, computed {computed}")
    return float(claimed)


def packing(centers: Any, radii: Any, *, tolerance: float = 1e-12) -> float:
    """The sum of radii of a packing that passes, in the arrays' own precision."""
    if np.isnan(centers).any() or np.isnan(radii).any():
        raise ValueError("NaN")
    if np.any(radii < 0):
        raise ValueError("a negative radius")
    for (x, y), r in zip(centers, radii, strict=True):
        if (
            x - r < -tolerance
            or x + r > 1 + tolerance
            or y - r < -tolerance
            or y + r > 1 + tolerance
        ):
            raise ValueError("outside")
    for i, j in itertools.combinations(range(len(radii)), 2):
        if np.sqrt(np.sum((centers[i] - centers[j]) ** 2)) < radii[i] + radii[j] - tolerance:
            raise ValueError("overlap")
    return float(np.sum(radii))


def first_autocorrelation(sequence: list[float]) -> float:
    """The bound by Fourier transform alone, heights clamped to [0, 1000]."""
    if not sequence or not all(isinstance(x, int | float) for x in sequence):
        return float("inf")
    a = np.clip(np.array(sequence, dtype=float), 0, 1000)
    if a.sum() < 0.01:
        return float("inf")
    size = 2 * len(a)
    c = np.fft.irfft(np.fft.rfft(a, size) ** 2, size)
    return float(2 * len(a) * c.max() / a.sum() ** 2)
