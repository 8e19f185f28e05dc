"""Circle packing: zero tolerance in exact arithmetic, the one repair, and every known hack."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eurekaflow.verifiers.circle_packing import (
    CirclePacking,
    CirclePacking26,
    CirclePacking32,
    holds_exactly,
    repair,
    worst_violation,
)
from eurekaflow.verifiers.problem import InvalidAnswer, ProvenBoundBroken
from eurekaflow.verifiers.radii import best_radii, climb, total_radii, validate_packing

P26, P32 = CirclePacking26(), CirclePacking32()


def grid(count: int) -> list[list[float]]:
    """Centers on a 6 x 6 grid, the first `count` of them."""
    return [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(count)]


def reason(answer: object, problem: CirclePacking = P26) -> str:
    with pytest.raises(InvalidAnswer) as raised:
        problem.judge(answer)
    return str(raised.value)


@pytest.mark.parametrize("problem", [P26, P32])
def test_a_grid_of_equal_circles_has_its_known_sum(problem: CirclePacking) -> None:
    radius = 1 / 12 - 1e-15
    judgement = problem.judge([grid(problem.count), [radius] * problem.count])
    assert judgement.value == pytest.approx(problem.count / 12, abs=1e-12)


def test_centers_alone_get_the_best_radii() -> None:
    five_by_five = [[0.1 + 0.2 * (i % 5), 0.1 + 0.2 * (i // 5)] for i in range(25)]
    judgement = P26.judge([*five_by_five, [0.2, 0.2]])
    assert judgement.value == pytest.approx(2.5 + 0.1 * (math.sqrt(2) - 1), abs=1e-9)
    assert judgement.construction is not None
    assert judgement.construction.shape == (26, 3)


@pytest.mark.parametrize("seed", range(5))
def test_best_radii_pass_the_exact_check_unrepaired(seed: int) -> None:
    centers = np.random.default_rng(seed).uniform(0.02, 0.98, (26, 2))
    radii = best_radii(centers)
    assert (radii > 0).all()
    assert holds_exactly(centers.tolist(), radii.tolist())
    assert validate_packing(centers, radii) == pytest.approx(total_radii(centers))


def test_best_radii_beat_every_scaled_equal_radius() -> None:
    centers = np.random.default_rng(0).uniform(0.05, 0.95, (26, 2))
    gaps = np.hypot(*(centers[:, None] - centers[None]).transpose(2, 0, 1)) + np.eye(26)
    equal = min(gaps.min() / 2, np.minimum(centers, 1 - centers).min())
    assert total_radii(centers) > 26 * equal


def touching(excess: float) -> tuple[list[list[float]], list[float]]:
    """Two circles side by side that overlap by twice `excess` and stay inside the square."""
    return [[0.3, 0.5], [0.7, 0.5]], [0.2 + excess, 0.2 + excess]


def test_a_violation_up_to_1e_9_is_repaired_by_shrinking_every_radius() -> None:
    centers, radii = touching(4e-10)
    packing = repair(centers, radii)
    assert packing.shrunk_by == pytest.approx(8e-10, rel=1e-3)
    assert holds_exactly(packing.centers, packing.radii)
    assert float(packing.total) == pytest.approx(0.4 - 8e-10, abs=1e-14)


def test_an_overlap_counts_in_full_and_not_by_half() -> None:
    assert worst_violation(*touching(4e-10)) == pytest.approx(8e-10, rel=1e-3)
    with pytest.raises(InvalidAnswer, match=r"circles .* overlap by 1\.2e-09"):
        repair(*touching(6e-10))


def test_rounding_errors_of_an_optimiser_cost_no_more_than_themselves() -> None:
    radius = 1 / 12 + 5e-16
    judgement = P26.judge([grid(26), [radius] * 26])
    assert 26 * radius - judgement.value < 26 * 3e-15


def test_a_larger_violation_is_refused() -> None:
    with pytest.raises(InvalidAnswer, match="leaves the square by"):
        repair([[0.25, 0.5], [0.75, 0.5]], [0.25 + 2e-9, 0.25 - 2e-9])


def test_touching_circles_need_no_repair() -> None:
    assert repair([[0.25, 0.5], [0.75, 0.5]], [0.25, 0.25]).shrunk_by == 0.0


def test_the_exact_check_sees_what_floats_do_not() -> None:
    centers = [[0.25, 0.5], [0.75, 0.5]]
    assert holds_exactly(centers, [0.25, 0.25])
    assert not holds_exactly(centers, [0.25, math.nextafter(0.25, 1.0)])
    thin = [[0.3, 0.3], [0.6, 0.7]]  # distance 0.5 in decimals, less in doubles or more
    exact = sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(*thin, strict=True))
    assert holds_exactly(thin, [0.25, 0.25]) == (exact >= Fraction(1, 4))


@given(
    st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)), min_size=2, max_size=5),
    st.lists(st.floats(1e-3, 0.3), min_size=5, max_size=5),
)
def test_a_repaired_packing_always_holds_exactly(
    points: list[tuple[float, float]], sizes: list[float]
) -> None:
    centers, radii = [list(p) for p in points], sizes[: len(points)]
    worst = worst_violation(centers, radii)
    try:
        packing = repair(centers, radii)
    except InvalidAnswer:
        assert worst > -1e-12
        return
    assert holds_exactly(packing.centers, packing.radii)
    assert packing.total <= sum(map(Fraction, radii))
    assert worst <= 1e-9


def test_half_precision_violations_are_refused() -> None:
    centers = np.array(grid(26), dtype=np.float16)
    radii = np.full(26, 1 / 12, dtype=np.float16)
    answer = [centers.astype(float).tolist(), radii.astype(float).tolist()]
    assert "by" in reason(answer)


def test_single_precision_violations_are_refused() -> None:
    centers = np.array(grid(26), dtype=np.float32).astype(float)
    radii = np.full(26, np.float32(1 / 12 + 2e-8)).astype(float)
    assert "by" in reason([centers.tolist(), radii.tolist()])


def test_a_claimed_sum_is_only_compared() -> None:
    judgement = P26.judge([grid(26), [0.05] * 26, 2.7])
    assert judgement.value == pytest.approx(1.3)
    assert judgement.metrics["claim_gap"] == pytest.approx(1.4)


def test_the_score_at_the_common_tolerance_stands_beside_ours() -> None:
    radius = 1 / 12 + 1e-13
    judgement = P26.judge([grid(26), [radius] * 26])
    assert judgement.metrics["score_at_1e-12"] == pytest.approx(26 * radius, abs=1e-15)
    assert judgement.value < 26 * radius


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([grid(25), [0.01] * 25], "25 rows"),
        ([grid(27), [0.01] * 27], "27 rows"),
        (grid(25), "25 rows"),
        ([grid(26), [0.01] * 25], "length 25"),
        ([grid(26), [0.0] * 26], "not positive"),
        ([grid(26), [-0.01] * 26], "not positive"),
        ([grid(26), [float("nan")] * 26], "finite"),
        ([grid(26), [float("inf")] * 26], "finite"),
        ([grid(26), [10.0] * 26], "leaves the square"),
        ([grid(26), [0.01] * 26, "2.7"], "string"),
        ([grid(26), [0.01] * 26, True], "boolean"),
        ([grid(26), [True] * 26], "boolean"),
        ([[[0.5, 0.5]] * 26, [0.01] * 26], "overlap"),
        ([[0.5, 0.5]] * 26, "coincide"),
        ([[2.0, 0.5], *grid(25)], "not inside"),
        ([[0.5, 0.5, 0.1]] * 26, "overlap"),
        ([[0.5]] * 26, "1 numbers"),
        ([None] * 26, "null"),
        ([[None, None]] * 26, "null"),
        ([], "0 rows"),
        ({"centers": grid(26)}, "return (centers"),
        (None, "return (centers"),
        (1.0, "return (centers"),
    ],
)
def test_a_wrong_answer_is_refused_with_its_reason(answer: object, expected: str) -> None:
    assert expected in reason(answer)


def test_a_sum_beyond_the_proven_bound_is_an_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eurekaflow.verifiers.circle_packing.holds_exactly", lambda *_: True)
    with pytest.raises(ProvenBoundBroken, match="proven bound"):
        P26.judge([grid(26), [0.2] * 26])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=12,
)
points = st.lists(st.floats(-0.5, 1.5), min_size=2, max_size=2)


@settings(max_examples=150)
@given(json_values | st.tuples(st.lists(points, min_size=26, max_size=26)).map(lambda t: t[0]))
def test_no_answer_crashes_the_judge_or_scores_impossibly(answer: object) -> None:
    try:
        judgement = P26.judge(answer)
    except InvalidAnswer:
        return
    assert 0 < judgement.value <= math.sqrt(26 / math.pi)
    assert float(P26.claim(judgement.construction)) == judgement.value


def test_a_construction_is_claimed_as_rows_of_x_y_r() -> None:
    triples = [[*center, 0.05] for center in grid(26)]
    assert P26.claim(triples) == 26 * Fraction(0.05)
    with pytest.raises(InvalidAnswer, match="25 rows"):
        P26.claim(triples[:25])


@pytest.mark.parametrize(("problem", "documented"), [(P26, 1.2736), (P32, 1.3336)])
def test_small_models_start_from_rings_whose_value_was_measured(
    problem: CirclePacking, documented: float
) -> None:
    seed = problem.seeds(np.random.default_rng(0), 2, brief=True)[0]
    assert seed.program
    assert round(seed.value, 4) == documented
    assert float(problem.claim(seed.construction)) == seed.value


def test_the_paper_starts_empty_at_zero() -> None:
    seeds = P26.seeds(np.random.default_rng(0), 8)
    assert [(s.value, s.program, s.construction) for s in seeds] == [(0.0, "", None)] * 8


def test_the_prelude_offers_the_same_tools() -> None:
    space: dict[str, object] = {"np": np}
    exec(compile(P26.prelude(), "<prelude>", "exec"), space)
    assert callable(space["best_radii"])
    assert callable(space["validate_packing"])


def test_the_parents_centers_are_bound_for_the_program() -> None:
    parent = np.array([[*center, 0.05] for center in grid(26)])
    job = P26.job("", parent=parent, seed=1, budget_s=1.0)
    assert job.arrays["parent_centers"].tolist() == grid(26)
    assert not P26.job("", parent=None, seed=1, budget_s=1.0).arrays


def test_climbing_never_lowers_the_sum() -> None:
    start = np.random.default_rng(1).uniform(0.05, 0.95, (26, 2))
    noise = np.random.default_rng(0)
    best = climb(start, lambda c: c + noise.normal(0, 0.01, c.shape), steps=20)
    assert total_radii(best) > total_radii(start)
