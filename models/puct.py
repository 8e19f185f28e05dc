"""PUCT over the archive: which earlier attempts to build on. Pure functions over arrays.

Source: arXiv 2601.16175. For a node with value v, visits n, best child value m and rank r among
the N nodes (0 = best):

    Q = m if n > 0 and m exists, else v          exploitation: the best outcome reached from here
    P = (N - r) / (N (N + 1) / 2)                rank prior
    score = Q + c * scale * P * sqrt(1 + T) / (1 + n)

with scale the range of values over non-seed nodes and T the total count. Counts are in finished
groups ("expansion", as the paper's text) or in attempts ("rollout", as the released code); the
functions here do not care. Rows are in archive order, which settles every tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
SCALE_FLOOR = 1e-6


def value_scale(
    values: npt.ArrayLike, is_seed: npt.ArrayLike, *, over: Literal["non_seed", "all"] = "non_seed"
) -> float:
    """max - min of the values over non-seed nodes (over seeds if there are no others), >= 1e-6."""
    v = np.asarray(values, dtype=np.float64)
    chosen = v
    if over == "non_seed":
        others = v[~np.asarray(is_seed, dtype=bool)]
        chosen = others if others.size else v
    return max(float(chosen.max() - chosen.min()), SCALE_FLOOR) if chosen.size else SCALE_FLOOR


def rank_prior(values: npt.ArrayLike) -> Float64:
    """P of every node, [n]: linear in the rank, best first, equal values in archive order."""
    v = np.asarray(values, dtype=np.float64)
    count = v.size
    rank = np.empty(count)
    rank[np.argsort(-v, kind="stable")] = np.arange(count)
    return np.asarray((count - rank) / (count * (count + 1) / 2.0))


def exploitation(
    values: npt.ArrayLike, visits: npt.ArrayLike, best_child: npt.ArrayLike
) -> Float64:
    """Q of every node, [n]: the best child's value once visited, its own value before.

    A best child of NaN or -inf is none.
    """
    v, n, m = (np.asarray(x, dtype=np.float64) for x in (values, visits, best_child))
    return np.where((n > 0) & (m > -np.inf), m, v)


def puct_scores(
    values: npt.ArrayLike,
    visits: npt.ArrayLike,
    best_child: npt.ArrayLike,
    is_seed: npt.ArrayLike,
    *,
    total: float,
    c: float = 1.0,
    scale_over: Literal["non_seed", "all"] = "non_seed",
) -> Float64:
    """Scores of the eligible nodes, float64 [n], arrays in archive order.

    `values` [n] finite, `visits` [n] >= 0, `best_child` [n] with NaN where no valid child exists
    (-inf, the maximum of none, means the same), `is_seed` [n] bool, `total` = T >= 0. Raises
    ValueError for anything else.
    """
    v, n, m = (np.asarray(x, dtype=np.float64) for x in (values, visits, best_child))
    _check(v, n, m, np.asarray(is_seed, dtype=bool), total)
    q = exploitation(v, n, m)
    scale = value_scale(v, is_seed, over=scale_over)
    bonus = c * scale * rank_prior(v) * np.sqrt(1.0 + total) / (1.0 + n)
    return np.asarray(q + bonus)


def _check(v: Float64, n: Float64, m: Float64, seed: npt.NDArray[np.bool_], total: float) -> None:
    """Raise ValueError unless the arrays describe the same nodes with possible numbers."""
    shapes = {x.shape for x in (v, n, m, seed)}
    if len(shapes) > 1 or v.ndim != 1:
        raise ValueError(f"one number a node is needed in each array, not shapes {shapes}")
    if not np.isfinite(v).all():
        raise ValueError("every node needs a finite value")
    if not (np.isfinite(n) & (n >= 0)).all() or not 0 <= total < np.inf:
        raise ValueError("visits and total are finite and not negative")
    if np.isposinf(m).any():
        raise ValueError("a best child has a finite value; NaN where there is none")


def select_parents(
    scores: npt.ArrayLike,
    values: npt.ArrayLike,
    ancestors: Sequence[Sequence[int]],
    k: int,
) -> list[int]:
    """Up to `k` indices by (score, value) descending, then archive order, no two of one lineage.

    `ancestors[i]` holds the indices within the arrays of all of i's ancestors, the chain running
    through ineligible attempts too. Taking a node blocks itself, its ancestors and its
    descendants. Asking for one parent needs no blocking; for none or fewer, none comes back.
    Raises ValueError unless all three have the same length.
    """
    s = np.asarray(scores, dtype=np.float64)
    v = np.asarray(values, dtype=np.float64)
    if not s.shape == v.shape == (len(ancestors),):
        raise ValueError(f"{s.shape} scores, {v.shape} values and {len(ancestors)} lineages")
    lineage = [frozenset(a) for a in ancestors]
    picked: list[int] = []
    for i in np.lexsort((np.arange(s.size), -v, -s)):
        if len(picked) >= k:
            break
        if all(int(i) not in lineage[p] and p not in lineage[i] for p in picked):
            picked.append(int(i))
    return picked


def greedy_parents(
    values: npt.ArrayLike,
    is_seed: npt.ArrayLike,
    parents: npt.ArrayLike,
    k: int,
    *,
    epsilon: float,
    rng: np.random.Generator,
    keep: int = 8,
) -> list[int]:
    """Epsilon-greedy reuse: group i starts from the (i mod size)-th of the `keep` best nodes.

    One child a direct parent is kept, its best; `parents` [n] names each node's (those of seeds
    are not looked at). With probability `epsilon` a kept node is drawn uniformly instead. Seeds
    are used until a valid attempt exists.
    """
    v = np.asarray(values, dtype=np.float64)
    seed = np.asarray(is_seed, dtype=bool)
    pool = np.flatnonzero(~seed) if (~seed).any() else np.flatnonzero(seed)
    best = pool[np.argsort(-v[pool], kind="stable")]
    if not seed[pool].all():
        _, first = np.unique(np.asarray(parents)[best], return_index=True)
        best = best[np.sort(first)]
    kept = best[:keep]
    return [
        int(rng.choice(kept)) if rng.random() < epsilon else int(kept[i % kept.size])
        for i in range(k)
    ]
