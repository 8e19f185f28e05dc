"""The packing tools that judge and candidate share: numpy, scipy and each other only.

The judge imports this module; the candidate gets its source as prelude.
"""

from collections.abc import Callable

import numpy as np

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def validate_packing(centers: object, radii: object) -> float:
    """Sum of radii; raises ValueError, naming the worst broken rule, if it is broken by > 1e-9."""
    c, r = np.asarray(centers, dtype=float), np.asarray(radii, dtype=float)
    if c.ndim != 2 or c.shape[1] != 2 or r.shape != (len(c),):
        raise ValueError(f"centers {c.shape} and radii {r.shape} must be (n, 2) and (n,)")
    if not (np.isfinite(c).all() and np.isfinite(r).all() and (r > 0).all()):
        raise ValueError("centers must be finite and radii finite and positive")
    wall = (r[:, None] - np.minimum(c, 1 - c)).max(axis=1)
    if wall.max() > 1e-9:
        raise ValueError(f"circle {wall.argmax()} leaves the square by {wall.max():.3g}")
    overlap = r[:, None] + r[None] - np.hypot(*(c[:, None] - c[None]).transpose(2, 0, 1))
    np.fill_diagonal(overlap, -1.0)
    i, j = np.unravel_index(overlap.argmax(), overlap.shape)
    if overlap[i, j] > 1e-9:
        raise ValueError(f"circles {i} and {j} overlap by {overlap[i, j]:.3g}")
    return float(r.sum())


def best_radii(centers: object) -> Floats:
    """The radii of the largest sum for fixed centers (linear program), safe for the verifier.

    Raises ValueError when a center is not inside the square or two centers coincide.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    c = np.asarray(centers, dtype=float)
    if c.ndim != 2 or c.shape[1] != 2 or not np.isfinite(c).all():
        raise ValueError(f"centers must be finite and of shape (n, 2), not {c.shape}")
    wall = np.minimum(c, 1 - c).min(axis=1)
    if wall.min() < 1e-6:
        raise ValueError(f"center {wall.argmin()} is not inside the square")
    i, j = np.triu_indices(len(c), 1)
    gap = np.hypot(*(c[i] - c[j]).T)
    if len(gap) and gap.min() < 1e-6:
        k = gap.argmin()
        raise ValueError(f"centers {i[k]} and {j[k]} coincide")
    near = gap < wall[i] + wall[j]
    i, j, gap = i[near], j[near], gap[near]
    rows = np.arange(len(gap))
    pairs = csr_array(
        (np.ones(2 * len(gap)), (np.r_[rows, rows], np.r_[i, j])), shape=(len(gap), len(c))
    )
    smallest = min(wall.min(), gap.min() if len(gap) else 1.0) / 4
    lower = np.full(len(c), min(smallest, 1e-6))
    found = milp(  # without integers: HiGHS, with less overhead than linprog
        -np.ones(len(c)),
        bounds=Bounds(lower, wall),
        constraints=LinearConstraint(pairs, -np.inf, gap) if len(gap) else None,
    )
    if found.x is None:
        raise ValueError(f"no radii for these centers: {found.message}")
    radii = np.array(found.x, dtype=float)
    over = (radii - wall).max()
    if len(gap):
        over = max(over, (radii[i] + radii[j] - gap).max() / 2)
    safe: Floats = np.clip(radii - max(over, 0.0) - 1e-15, 1e-8, None)
    return safe


def total_radii(centers: object) -> float:
    """Sum of `best_radii`, 0 for centers without any."""
    try:
        return float(best_radii(centers).sum())
    except ValueError:
        return 0.0


def rings(count: int) -> Floats:
    """Centers on concentric rings: one, eight around it, the others around those."""
    i = np.arange(count)
    ring = np.select([i < 1, i < 9], [0.0, 0.3], 0.7)
    turn = 2 * np.pi * i / np.where(i < 9, 8, count - 9)
    around = ring[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    centers: Floats = np.clip(0.5 + around, 0.01, 0.99)
    return centers


def climb(centers: Floats, change: Callable[[Floats], Floats], steps: int = 40) -> Floats:
    """The best centers after `steps` tries of `change`, clipped to the square, kept if better."""
    best, score = np.array(centers, dtype=float), total_radii(centers)
    for _ in range(steps):
        trial = np.clip(np.array(change(best.copy()), dtype=float), 0.001, 0.999)
        total = total_radii(trial) if trial.shape == best.shape else 0.0
        if total > score:
            best, score = trial, total
    return best
