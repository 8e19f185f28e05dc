"""The Erdős tools that judge and candidate share: numpy and each other only.

The judge imports this module; the candidate gets its source as prelude.
"""

from collections.abc import Callable

import numpy as np

Heights = np.ndarray[tuple[int], np.dtype[np.float64]]


def c5(h: object) -> float:
    """C5 of h rescaled to sum n/2; infinity when h has no valid rescaling."""
    heights = np.asarray(h, dtype=float).ravel()
    n, total = len(heights), float(heights.sum())
    if not 0 < total < np.inf:
        return float("inf")
    heights = heights * (n / 2 / total)
    if not (heights.min() >= 0 and heights.max() <= 1 + 1e-9):
        return float("inf")
    return float(np.correlate(heights, 1 - heights, "full").max()) * 2 / n


def verify_c5_solution(h_values: object, c5_achieved: float, n_points: int) -> float:
    """C5 of h; raises ValueError for what would be rejected. The claimed value is not used."""
    heights = np.asarray(h_values, dtype=float)
    if heights.shape != (n_points,):
        raise ValueError(f"h has shape {heights.shape}, expected ({n_points},)")
    score = c5(heights)
    if not np.isfinite(score):
        raise ValueError("h is not in [0, 1] after rescaling its sum to n/2")
    return score


def evaluate_erdos_solution(h_values: object, c5_bound: float, n_points: int) -> float:
    """C5 of h, or infinity when (h, c5_bound, n_points) would be rejected."""
    try:
        return verify_c5_solution(h_values, c5_bound, n_points)
    except (TypeError, ValueError):
        return float("inf")


def climb(h: Heights, change: Callable[[Heights], Heights], steps: int = 1000) -> Heights:
    """The best h after `steps` tries: `change(h)`, clipped to [0, 1], is kept when C5 falls."""
    best, score = np.array(h, dtype=float), c5(h)
    for _ in range(steps):
        trial = np.clip(change(best.copy()), 0, 1)
        if c5(trial) < score:
            best, score = trial, c5(trial)
    return best
