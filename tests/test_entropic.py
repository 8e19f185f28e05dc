"""The entropic objective against the published vectors, and the properties it must have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eurekaflow.models.entropic import (
    KL_TARGET,
    advantages,
    constant,
    importance_loss,
    mean_log_ratio,
    shape_kl,
    solve_beta,
)

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))
ENTROPIC: dict[str, dict[str, Any]] = VECTORS["entropic"]
KL: dict[str, Any] = VECTORS["kl"]
REACHED = ("V1", "V3", "V4", "V5", "V8", "V11")  # the target lies strictly inside the bracket
COMPARED = [name for name in ENTROPIC if not name.startswith("V7")]  # V7 is degenerate

groups = st.lists(st.integers(-30, 30), min_size=4, max_size=24).map(np.array)


def close(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", COMPARED)
def test_adaptive_advantages_match_the_vector(name: str) -> None:
    case = ENTROPIC[name]
    assert advantages(case["rewards"]).tolist() == close(case["adv_f64"])


@pytest.mark.parametrize("name", [n for n in ENTROPIC if n.split("_")[0] in REACHED])
def test_beta_and_its_kl_match_the_vector_where_the_target_is_reached(name: str) -> None:
    case = ENTROPIC[name]
    beta, achieved = solve_beta(case["rewards"])
    assert (beta, achieved) == (close(case["beta_f64"]), close(case["kl_f64"]))


@pytest.mark.parametrize("name", COMPARED)
def test_constant_beta_advantages_match_the_vector(name: str) -> None:
    case = ENTROPIC[name]
    found = advantages(case["rewards"], estimator="entropic")
    assert found.tolist() == close(case["adv_const_beta2_f64"])


@pytest.mark.parametrize("name", list(ENTROPIC))
def test_mean_baseline_advantages_match_the_vector(name: str) -> None:
    case = ENTROPIC[name]
    found = advantages(case["rewards"], estimator="mean_baseline")
    assert found.tolist() == close(case["adv_mean_baseline_f64"])


def test_a_group_of_two_is_degenerate_but_finite() -> None:
    assert np.isfinite(advantages(ENTROPIC["V7_two_rollouts"]["rewards"])).all()


def test_a_lone_winner_of_64_gets_the_published_advantage() -> None:
    found = advantages([0.0] * 63 + [1.0])
    assert (found[-1], found[0]) == (pytest.approx(27.7857, abs=1e-3), pytest.approx(-0.306, 1e-2))


@given(groups, st.integers(1, 1000), st.integers(-1000, 1000))
def test_advantages_do_not_change_under_a_positive_affine_map(
    rewards: np.ndarray, scale: int, shift: int
) -> None:
    mapped = advantages(rewards * float(scale) + shift)
    assert mapped.tolist() == pytest.approx(advantages(rewards).tolist(), rel=1e-6, abs=1e-6)


@given(groups, st.randoms(use_true_random=False))
def test_advantages_follow_a_permutation_of_the_group(rewards: np.ndarray, random: Any) -> None:
    order = list(range(len(rewards)))
    random.shuffle(order)
    permuted = advantages(rewards[order])
    assert permuted.tolist() == pytest.approx(advantages(rewards)[order].tolist(), abs=1e-6)


@given(groups)
def test_no_advantage_is_below_minus_one_and_the_best_reward_has_the_largest(
    rewards: np.ndarray,
) -> None:
    found = advantages(rewards)
    assert found.min() >= -1
    assert found[int(rewards.argmax())] == found.max()


@given(groups)
def test_the_achieved_kl_never_exceeds_the_target_by_more_than_rounding(
    rewards: np.ndarray,
) -> None:
    _, achieved = solve_beta(rewards)
    assert achieved <= KL_TARGET + 1e-9 or constant(rewards)


def test_a_single_reward_has_beta_zero() -> None:
    assert solve_beta([3.0]) == (0.0, 0.0)


@pytest.mark.parametrize("rewards", [[], [1.0, float("nan")], [[1.0]]])
def test_a_group_that_is_empty_or_not_finite_is_refused(rewards: list[Any]) -> None:
    with pytest.raises(ValueError, match="finite"):
        advantages(rewards)


def kl_batch() -> tuple[np.ndarray, ...]:
    """K1 as flat arrays: sampled, base, mask, advantage, train."""
    each = [KL["A"], KL["B"]]
    names = ("sampled", "base", "mask", "train")
    sampled, base, mask, train = (np.concatenate([c[n] for c in each]) for n in names)
    advantage = np.concatenate([np.broadcast_to(c["traj_adv"], len(c["mask"])) for c in each])
    return sampled, base, mask, advantage, train


def test_kl_shaping_matches_the_masked_vector() -> None:
    sampled, base, mask, advantage, _ = kl_batch()
    expected = np.concatenate([np.ravel(part) for part in _parts(KL["token_adv_masked"])])
    found = shape_kl(sampled, base, mask, advantage, coef=KL["lambda_"])
    assert found.tolist() == close(expected.tolist())


def test_the_mean_log_ratio_of_the_batch_matches_the_vector() -> None:
    sampled, base, mask, _, _ = kl_batch()
    assert mean_log_ratio(sampled, base, mask) == close(KL["batch_mean_log_ratio"])


def test_the_summed_loss_matches_the_masked_vector() -> None:
    sampled, base, mask, advantage, train = kl_batch()
    shaped = shape_kl(sampled, base, mask, advantage, coef=KL["lambda_"])
    assert importance_loss(train, sampled, shaped, mask) == close(KL["loss_masked"])


def test_the_kl_shaping_of_a_batch_sums_to_zero() -> None:
    sampled, base, mask, advantage, _ = kl_batch()
    shaped = shape_kl(sampled, base, mask, advantage, coef=0.3)
    assert (shaped - advantage * mask).sum() == pytest.approx(0, abs=1e-12)


FIELDS = ("sampled", "base", "mask")
NESTED = {name: [KL["A"][name], KL["B"][name]] for name in (*FIELDS, "train")}
EACH = [KL["A"]["traj_adv"], KL["B"]["traj_adv"]]


@pytest.mark.parametrize(
    "advantage",
    [EACH, np.array(EACH), [np.full(3, 0.5), [-0.8] * 4], [0.5, [-0.8] * 4]],
)
def test_a_batch_may_be_sequences_with_an_advantage_each_or_for_each_token(
    advantage: Any,
) -> None:
    found = shape_kl(*(NESTED[name] for name in FIELDS), advantage, coef=KL["lambda_"])
    assert isinstance(found, list)
    assert [part.tolist() for part in found] == [close(part) for part in KL["token_adv_masked"]]
    loss = importance_loss(NESTED["train"], NESTED["sampled"], found, NESTED["mask"])
    assert loss == close(KL["loss_masked"])


@pytest.mark.parametrize("advantage", [[0.5, -0.8], [[0.5] * 3, [-0.8] * 3]])
@pytest.mark.parametrize("form", [np.array, list])
def test_an_advantage_of_rows_is_the_rows_or_the_tokens(advantage: Any, form: Any) -> None:
    rows = form([[-1.0, -0.5, -2.0], [-0.3, 0.0, -0.7]])
    found = shape_kl(rows, rows, form([[1, 1, 1], [1, 0, 1]]), form(advantage), coef=0.1)
    assert isinstance(found, type(rows))
    assert np.array(found).tolist() == [[0.5] * 3, [-0.8, 0.0, -0.8]]


def test_as_many_rows_as_tokens_are_still_rows() -> None:
    square = np.zeros((2, 2))
    found = shape_kl(square, square, np.ones((2, 2)), [1.0, 2.0], coef=0.1)
    assert found.tolist() == [[1.0, 1.0], [2.0, 2.0]]


@pytest.mark.parametrize(
    ("sampled", "mask", "advantage"),
    [
        ([0.0, 0.0], [1, 1], [1.0]),  # neither one for all nor one a token
        (np.zeros((2, 3)), np.ones((2, 3)), [1.0, 2.0, 3.0]),
        (np.zeros((2, 3)), np.ones((2, 3)), np.ones((2, 1))),
        (np.zeros((2, 3)), np.ones(6), [1.0, 2.0]),
        (np.zeros((2, 3)), np.ones((3, 2)), [1.0, 2.0]),
        ([[0.0], [0.0, 0.0]], [[1, 1], [1]], [1.0, 2.0]),
        (np.zeros((1, 2, 3)), np.ones((1, 2, 3)), [1.0]),
        ([0.0, [0.0]], [1, [1]], [1.0, 1.0]),
        ([0.0, 0.0], [1, 0.5], [1.0, 1.0]),
    ],
)
def test_a_batch_that_could_mean_two_things_is_refused(
    sampled: Any, mask: Any, advantage: Any
) -> None:
    with pytest.raises(ValueError, match=r"sequences|mask|shapes"):
        shape_kl(sampled, sampled, mask, advantage, coef=0.1)
    with pytest.raises(ValueError, match=r"sequences|mask|shapes"):
        importance_loss(sampled, sampled, advantage, mask)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.filterwarnings("error")
def test_what_stands_under_mask_0_counts_nowhere(bad: float) -> None:
    dirty, clean, mask = [-1.0, bad, -2.0], [-1.0, 0.0, -2.0], [1, 0, 1]
    shaped = shape_kl(dirty, dirty, mask, [0.5, bad, 0.5], coef=0.1)
    assert shaped.tolist() == [0.5, 0.0, 0.5]
    assert importance_loss(dirty, dirty, [0.5, bad, 0.5], mask) == -1.0
    assert mean_log_ratio(dirty, clean, mask) == 0.0


def test_a_batch_of_no_tokens_is_worth_nothing() -> None:
    empty = shape_kl([[], []], [[], []], [[], []], [1.0, 2.0], coef=0.1)
    assert [part.size for part in empty] == [0, 0]
    assert importance_loss([], [], [], []) == 0.0
    assert shape_kl(np.zeros((2, 0)), np.zeros((2, 0)), np.zeros((2, 0)), 1.0, coef=1).size == 0


def _parts(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value)
