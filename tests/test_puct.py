"""The choice of parents against the published vectors, and what it does with odd input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurekaflow.models.puct import (
    exploitation,
    greedy_parents,
    puct_scores,
    rank_prior,
    select_parents,
    value_scale,
)

BLOCKS = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))["puct"]
TREES = [block for block in BLOCKS if "rows" in block]
EXPANSIONS = next(block for block in BLOCKS if block["title"] == "P3-G4")
GROUP_SIZE = 4  # by which P3-G4 divides T and n
NONE = float("nan")


class Tree:
    """A block's nodes as arrays, in the order of its rows."""

    def __init__(self, block: dict[str, Any]) -> None:
        rows = block["rows"]
        self.names = [row["id"] for row in rows]
        self.values = [row["R"] for row in rows]
        self.visits = np.array([row["n"] for row in rows], dtype=float)
        self.best_child = [block["m"].get(name, NONE) for name in self.names]
        self.is_seed = [row["parent"] is None for row in rows]
        self.total = block["T"]
        above = {row["id"]: row["parent"] for row in rows}
        self.ancestors = [self._line(name, above) for name in self.names]

    def _line(self, name: str, above: dict[str, str | None]) -> list[int]:
        parent = above[name]
        return [] if parent is None else [self.names.index(parent), *self._line(parent, above)]

    def scores(self, *, divisor: int = 1) -> np.ndarray[Any, Any]:
        return puct_scores(
            self.values,
            self.visits / divisor,
            self.best_child,
            self.is_seed,
            total=self.total / divisor,
        )

    def picked(self, scores: np.ndarray[Any, Any], k: int) -> list[str]:
        return [self.names[i] for i in select_parents(scores, self.values, self.ancestors, k)]


@pytest.mark.parametrize("block", TREES, ids=lambda block: block["title"])
def test_scores_and_picks_match_the_vector(block: dict[str, Any]) -> None:
    tree = Tree(block)
    rows = block["rows"]
    q = exploitation(tree.values, tree.visits, tree.best_child)
    assert q.tolist() == pytest.approx([row["Q"] for row in rows], rel=1e-9)
    assert rank_prior(tree.values).tolist() == pytest.approx([row["P"] for row in rows], rel=1e-9)
    assert value_scale(tree.values, tree.is_seed) == pytest.approx(block["scale"], rel=1e-9)
    assert tree.scores().tolist() == pytest.approx([row["score"] for row in rows], rel=1e-9)
    assert tree.picked(tree.scores(), block["ask"]) == block["picked"]


def test_scores_and_picks_match_the_vector_in_expansion_units() -> None:
    tree = Tree(next(block for block in TREES if block["title"].startswith("P3")))
    scores = tree.scores(divisor=GROUP_SIZE)
    assert dict(zip(tree.names, scores, strict=True)) == pytest.approx(
        EXPANSIONS["scores"], rel=1e-9
    )
    assert tree.picked(scores, 2) == EXPANSIONS["picked_ask_2"]


@pytest.mark.parametrize("none", [float("nan"), float("-inf")])
def test_a_visited_node_without_a_valid_child_keeps_its_own_value(none: float) -> None:
    assert exploitation([2.0, 3.0], [5, 0], [none, 9.0]).tolist() == [2.0, 3.0]


@pytest.mark.parametrize("k", [0, -1])
def test_asking_for_no_parent_gives_none(k: int) -> None:
    assert select_parents([1.0, 2.0], [1.0, 2.0], [[], []], k) == []


def test_an_archive_without_nodes_gives_none() -> None:
    assert puct_scores([], [], [], [], total=0).tolist() == []
    assert select_parents([], [], [], 3) == []


def test_equal_scores_and_values_are_taken_in_archive_order() -> None:
    assert select_parents([1.0] * 3, [0.0] * 3, [[], [], []], 2) == [0, 1]
    assert select_parents([1.0] * 3, [0.0, 2.0, 1.0], [[], [], []], 3) == [1, 2, 0]


def test_no_more_parents_come_back_than_lineages() -> None:
    assert select_parents([3.0, 2.0, 1.0], [0.0] * 3, [[], [0], [1, 0]], 8) == [0]


@pytest.mark.parametrize(
    "change",
    [
        {"values": [0.0]},
        {"visits": [0, 0, 0]},
        {"best_child": [NONE]},
        {"is_seed": [True]},
        {"values": [0.0, NONE]},
        {"values": [0.0, float("inf")]},
        {"visits": [0, -1]},
        {"visits": [0, NONE]},
        {"best_child": [NONE, float("inf")]},
        {"total": -1},
        {"total": NONE},
    ],
    ids=str,
)
def test_arrays_that_describe_no_tree_are_refused(change: dict[str, Any]) -> None:
    sound: dict[str, Any] = {
        "values": [0.0, 1.0],
        "visits": [1, 0],
        "best_child": [NONE, NONE],
        "is_seed": [True, False],
        "total": 1,
    }
    assert np.isfinite(puct_scores(**sound)).all()
    with pytest.raises(ValueError, match=r"needed|needs|finite"):
        puct_scores(**sound | change)


def test_a_choice_from_arrays_of_different_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match="1 lineages"):
        select_parents([1.0, 2.0], [1.0, 2.0], [[]], 1)


def greedy(k: int, *, epsilon: float = 0.0, seed: int = 0, **tree: Any) -> list[int]:
    return greedy_parents(
        tree["values"],
        tree["is_seed"],
        tree["parents"],
        k,
        epsilon=epsilon,
        rng=np.random.default_rng(seed),
        keep=tree.get("keep", 8),
    )


FAMILIES: dict[str, Any] = {
    "values": [0.0, 5.0, 9.0, 7.0, 8.0, -1.0],
    "is_seed": [True, False, False, False, False, False],
    "parents": [-1, 0, 1, 1, 1, 2],
}


def test_greedy_groups_go_round_the_best_child_of_each_parent() -> None:
    assert greedy(7, **FAMILIES) == [2, 1, 5, 2, 1, 5, 2]


def test_greedy_keeps_no_more_than_the_best_nodes() -> None:
    assert greedy(4, keep=2, **FAMILIES) == [2, 1, 2, 1]


def test_greedy_takes_the_first_of_equal_siblings() -> None:
    assert greedy(2, values=[1.0, 1.0], is_seed=[False] * 2, parents=[7, 7]) == [0, 0]


def test_greedy_uses_seeds_until_a_valid_attempt_exists_whatever_its_value() -> None:
    seeds: dict[str, Any] = {"values": [0.0, 1.0], "is_seed": [True, True], "parents": [-1, -1]}
    assert greedy(3, **seeds) == [1, 0, 1]
    worse = {"values": [0.0, 1.0, -5.0], "is_seed": [True, True, False], "parents": [-1, -1, 0]}
    assert greedy(2, **worse) == [2, 2]


def test_epsilon_draws_kept_nodes_uniformly_and_repeats_for_its_seed() -> None:
    drawn = greedy(3000, epsilon=1.0, **FAMILIES)
    counts = {node: drawn.count(node) for node in set(drawn)}
    assert set(counts) == {1, 2, 5}
    assert all(900 < count < 1100 for count in counts.values())
    assert drawn == greedy(3000, epsilon=1.0, **FAMILIES)
    assert greedy(3000, epsilon=0.1, **FAMILIES) != greedy(3000, **FAMILIES)
