"""The Erdős tools that judge and candidate share: numpy, scipy and each other only.

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


def cells(h: Heights, n: int) -> Heights:
    """h on n equal cells: the averages over them."""
    area = np.concatenate([[0.0], np.cumsum(np.asarray(h, dtype=float))]) / len(h)
    at = np.linspace(0, 1, int(n) + 1)
    return np.diff(np.interp(at, np.linspace(0, 1, len(h) + 1), area)) * int(n)


_TRIES = 1000
_spent = 0.0  # tries of `climb`; a linear program counts for as many as it takes time


def climb(h: Heights, change: Callable[[Heights], Heights], steps: int = _TRIES) -> Heights:
    """The best h after `steps` tries: `change(h)`, clipped to [0, 1], is kept when C5 falls."""
    global _spent
    best, score, _spent = np.array(h, dtype=float), c5(h), 0.0
    while _spent < steps:
        _spent += 1
        trial = np.clip(change(best.copy()), 0, 1)
        if c5(trial) < score:
            best, score = trial, c5(trial)
    return best


def improve(h: Heights, reach: float = 0.1) -> Heights:
    """h after linear programs that each lower C5, no value moved by more than `reach` in one.

    Near h every overlap is linear, so the largest is minimised by a linear program; when C5 does
    not fall the reach was too wide and is cut to a quarter, five times at most.
    """
    best: Heights = np.clip(np.asarray(h, dtype=float), 0, 1)
    best = np.clip(best + (0.5 - best.mean()), 0, 1)
    reach = least = abs(float(reach))
    least /= 4**5
    while reach >= least > 0 and _spent < _TRIES:
        trial = np.clip(best + _move(best, reach), 0, 1)
        if c5(trial) < c5(best) - 1e-9:
            best = trial
        else:
            reach /= 4
    return best


def _move(h: Heights, reach: float) -> Heights:
    """The change within `reach` that minimises the largest linearised overlap, sum unchanged."""
    from scipy.optimize import linprog

    global _spent
    n = len(h)
    _spent += n / 5 + n * n / 300
    wide, rest = np.pad(h, n), np.pad(1 - h, n)
    lags, at = np.arange(1 - n, n)[:, None], n + np.arange(n)
    overlaps = (2 / n) * (h * rest[at + lags]).sum(axis=1)
    slopes = (2 / n) * (rest[at + lags] - wide[at - lags])
    near = overlaps > overlaps.max() - 4 * reach  # the others cannot become the largest
    found = linprog(
        np.append(np.zeros(n), 1.0),
        A_ub=np.column_stack([slopes[near], -np.ones(near.sum())]),
        b_ub=-overlaps[near],
        A_eq=np.append(np.ones(n), 0.0)[None],
        b_eq=[0.0],
        bounds=[*zip(np.maximum(-reach, -h), np.minimum(reach, 1 - h), strict=True), (None, None)],
    )
    return np.zeros(n) if found.x is None else np.asarray(found.x[:n], dtype=float)
