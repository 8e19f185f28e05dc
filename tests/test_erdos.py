"""Erdős' minimum overlap: known values, the two paths, the repair and every known hack."""

from __future__ import annotations

import contextlib
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eurekaflow.verifiers import erdos_tools
from eurekaflow.verifiers.answers import parse
from eurekaflow.verifiers.erdos import Erdos, exact_c5, repair
from eurekaflow.verifiers.erdos_tools import c5, cells, climb, improve
from eurekaflow.verifiers.problem import TRAINING, VERIFY, InvalidAnswer, ProvenBoundBroken

ERDOS = Erdos()


def brute_force(h: list[Fraction]) -> Fraction:
    """C5 by its definition, over every whole lag."""
    n = len(h)
    return max(
        Fraction(2, n) * sum(h[i] * (1 - h[i + k]) for i in range(n) if 0 <= i + k < n)
        for k in range(1 - n, n)
    )


def reason(answer: object) -> str:
    with pytest.raises(InvalidAnswer) as raised:
        ERDOS.judge(answer)
    return str(raised.value)


@pytest.mark.parametrize("n", [1, 2, 7, 50, 600])
def test_the_constant_half_scores_exactly_one_half(n: int) -> None:
    assert ERDOS.claim([0.5] * n) == Fraction(1, 2)
    assert ERDOS.judge([0.5] * n).value == -0.5


@given(st.lists(st.integers(20, 80), min_size=1, max_size=12))
def test_the_exact_path_equals_the_definition(cells: list[int]) -> None:
    total = sum(cells)
    h = [Fraction(c * len(cells), 2 * total) for c in cells]
    if max(h) <= 1:
        assert ERDOS.claim([float(c) for c in cells]) == brute_force(h)


@pytest.mark.parametrize("n", [3, 50, 257, 600])
def test_the_fast_path_agrees_with_the_exact_one(n: int) -> None:
    heights = np.random.default_rng(n).uniform(0.1, 0.9, n)
    assert c5(heights) == pytest.approx(float(ERDOS.claim(heights)), abs=1e-12)


def test_the_score_does_not_depend_on_the_scale() -> None:
    heights = np.random.default_rng(0).uniform(0.1, 0.9, 40)
    assert ERDOS.claim(heights * 4.0) == ERDOS.claim(heights)


def test_the_scored_function_has_its_sum_exactly() -> None:
    heights = np.random.default_rng(1).uniform(0.1, 0.9, 41).tolist()
    numerators, denominator = repair(heights)
    assert Fraction(sum(numerators), denominator) == Fraction(41, 2)


def test_rounding_above_one_is_repaired_without_leaving_the_rules() -> None:
    numerators, denominator = repair([1.0 + 4e-10, 1.0, 1.0, 1e-9, 0.0, 0.0])
    assert max(numerators) <= denominator
    assert Fraction(sum(numerators), denominator) == 3


def test_a_construction_that_was_judged_is_worth_the_same_again() -> None:
    first = ERDOS.judge(np.random.default_rng(2).uniform(0.0, 0.9, 60).tolist())
    assert first.construction is not None
    again = ERDOS.judge(first.construction.tolist())
    assert again.value == pytest.approx(first.value, abs=1e-14)


def test_a_claimed_score_is_only_compared() -> None:
    judgement = ERDOS.judge([[0.5] * 10, 0.4, 10])
    assert judgement.value == -0.5
    assert judgement.metrics["claim_gap"] == pytest.approx(0.1)


def test_clipping_then_normalising_may_not_push_values_above_one() -> None:
    assert "> 1" in reason([1.0, 1.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0])


def test_nothing_known_beats_the_proven_bound_so_that_is_an_alert(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eurekaflow.verifiers.erdos.PROVEN_LOWER_BOUND", 0.6)
    with pytest.raises(ProvenBoundBroken, match="proven bound"):
        ERDOS.judge([0.5] * 10)
    with pytest.raises(ProvenBoundBroken):
        ERDOS.claim([0.5] * 10)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([], "length 0"),
        ([0.5, -1e-300], "negative"),
        ([0.0, 0.0], "zero everywhere"),
        ([True, False], "boolean"),
        (["0.5", "0.5"], "string"),
        ([None, 0.5], "null"),
        ([0.5, float("nan")], "finite"),
        ([0.5, float("inf")], "finite"),
        ([0.5, 10**400], "too large"),
        ([0.5] * 1001, "length 1001"),
        ({"h": [0.5]}, "must be a list"),
        ("0.5", "must be a list"),
        (0.5, "must be a list"),
        ([[0.5, 0.5], [0.5, 0.5]], "parts"),
        ([[0.5, 0.5], 0.5], "parts"),
        ([[0.5, 0.5], 0.5, 3], "n_points is 3"),
        ([[0.5, 0.5], 0.5, 2.5], "whole number"),
        ([[0.5, 0.5], 0.5, True], "boolean"),
        ([[0.5, 0.5], "0.38", 2], "string"),
        ([[[0.5], [0.5]], 0.5, 2], "list"),
        ([0.5, [0.5]], "list"),
    ],
)
def test_a_wrong_answer_is_refused_with_its_reason(answer: object, expected: str) -> None:
    assert expected in reason(answer)


def test_only_a_claim_may_have_more_than_a_thousand_cells() -> None:
    assert ERDOS.judge([0.5] * 1001, exact=True).value == -0.5
    assert ERDOS.claim([0.5] * 20_000) == Fraction(1, 2)
    with pytest.raises(InvalidAnswer, match="20001"):
        ERDOS.claim([0.5] * 20_001)


def test_by_hand_an_answer_may_be_as_long_as_a_claim() -> None:
    assert ERDOS.measure([0.5] * 20_000, mode=VERIFY).value == pytest.approx(-0.5, abs=1e-12)
    with pytest.raises(InvalidAnswer, match="20001"):
        ERDOS.measure([0.5] * 20_001, mode=VERIFY)
    with pytest.raises(InvalidAnswer, match="1001"):
        ERDOS.measure([0.5] * 1001, mode=TRAINING)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=12,
)


@settings(max_examples=300)
@given(json_values)
def test_no_answer_crashes_the_judge_or_scores_impossibly(answer: object) -> None:
    try:
        judgement = ERDOS.judge(answer)
    except InvalidAnswer:
        return
    assert 0.379005 <= -judgement.value < 2
    assert judgement.construction is not None
    assert judgement.construction.sum() == pytest.approx(len(judgement.construction) / 2)
    assert math.isfinite(ERDOS.reward(judgement.value))


@given(st.binary(max_size=60))
def test_no_bytes_crash_the_parser(data: bytes) -> None:
    with contextlib.suppress(InvalidAnswer):
        value = parse(data)
        assert json.dumps(value, allow_nan=False)


def test_seeds_are_the_published_start_and_carry_their_own_value() -> None:
    seeds = ERDOS.seeds(np.random.default_rng(0), 8)
    assert len({len(s.construction) for s in seeds if s.construction is not None}) > 2
    for seed in seeds:
        assert seed.construction is not None
        assert 40 <= len(seed.construction) <= 99
        assert seed.construction.mean() == pytest.approx(0.5)
        assert seed.value == pytest.approx(-float(ERDOS.claim(seed.construction)), abs=1e-12)
        assert seed.program == ""


def test_small_models_start_at_the_same_h_with_an_example_program() -> None:
    paper, brief = (ERDOS.seeds(np.random.default_rng(0), 3, brief=b) for b in (False, True))
    assert [s.value for s in paper] == [s.value for s in brief]
    assert all(s.program.startswith(ERDOS.opening().removeprefix("```python\n")) for s in brief)


def test_seeds_depend_on_the_generator_alone() -> None:
    first, again = (ERDOS.seeds(np.random.default_rng(3), 4) for _ in range(2))
    assert [s.value for s in first] == [s.value for s in again]


def test_the_prelude_is_the_evaluator_and_needs_only_numpy_to_start() -> None:
    space: dict[str, object] = {"np": np}
    exec(compile(ERDOS.prelude(), "<prelude>", "exec"), space)
    evaluate = space["evaluate_erdos_solution"]
    assert callable(evaluate)
    assert evaluate([0.5] * 4, 0.0, 4) == 0.5
    assert evaluate([0.5] * 4, 0.0, 5) == math.inf


def test_climbing_never_makes_h_worse() -> None:
    start = np.random.default_rng(4).uniform(0.1, 0.9, 40)
    noise = np.random.default_rng(5)
    best = climb(start, lambda h: h + noise.normal(0, 0.05, h.size), steps=200)
    assert c5(best) < c5(start)


def test_linear_programs_bring_a_random_start_within_a_thousandth_of_the_record() -> None:
    start = ERDOS.seeds(np.random.default_rng(4), 1)[0].construction
    assert start is not None
    best = climb(start, lambda h: improve(h, 0.1))
    judged = ERDOS.judge(best.tolist())
    assert -judged.value == pytest.approx(c5(best), abs=1e-12)
    assert 0.380876 < c5(best) < 0.3819


def test_a_linear_program_moves_no_value_further_than_it_may() -> None:
    start = cells(np.random.default_rng(5).uniform(0.2, 0.8, 30), 30)
    start += 0.5 - start.mean()
    move = erdos_tools._move(start, 0.03)
    assert abs(move).max() <= 0.03 + 1e-9
    assert move.sum() == pytest.approx(0.0, abs=1e-9)
    assert c5(start + move) < c5(start)


def test_improving_the_best_known_to_it_changes_nothing() -> None:
    assert improve(np.array([0.5]), 0.1).tolist() == [0.5]
    assert improve(np.full(8, 0.5), 0.0).tolist() == [0.5] * 8


@pytest.mark.parametrize("n", [1, 7, 20, 100])
def test_cells_keep_the_area_and_the_range(n: int) -> None:
    h = np.random.default_rng(6).uniform(0.0, 1.0, 20)
    split = cells(h, n)
    assert len(split) == n
    assert split.mean() == pytest.approx(h.mean(), abs=1e-12)
    assert h.min() - 1e-12 <= split.min() <= split.max() <= h.max() + 1e-12


def test_climbing_by_linear_programs_ends_within_its_tries() -> None:
    calls = []
    climb(np.full(300, 0.5), lambda h: (calls.append(1), improve(h, 0.1))[1])
    assert len(calls) < 10


def test_a_score_beyond_the_record_is_measured_exactly() -> None:
    heights = np.random.default_rng(6).uniform(0.1, 0.9, 30).tolist()
    exact = ERDOS.judge(heights, exact=True).value
    assert exact == -float(exact_c5(*repair(heights)))


def test_the_reward_is_one_over_the_score() -> None:
    assert ERDOS.reward(-0.4) == 2.5
    assert ERDOS.baseline_reward(-0.4) == pytest.approx(1 / (1e-8 + 0.4), abs=1e-12)
    assert ERDOS.score(-0.4) == 0.4
    assert ERDOS.record() is not None
    assert ERDOS.record().score == 0.380876  # type: ignore[union-attr]
