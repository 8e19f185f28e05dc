"""The autocorrelation inequalities: known values, both paths, repair, gates, starts."""

from __future__ import annotations

import itertools
import json
import math
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eurekaflow.verifiers import kronecker
from eurekaflow.verifiers.autocorrelation import AC1, AC2, Autocorrelation, precise, repair
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.problem import InvalidAnswer, ProvenBoundBroken
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Cause, Execution

ac1, ac2 = AC1(), AC2()
BOTH = pytest.mark.parametrize("problem", [ac1, ac2], ids=["ac1", "ac2"])


def definition(problem: Autocorrelation, heights: list[float]) -> Fraction:
    """The bound by its definition, as integrals of the piecewise linear f*f on [0, 2]."""
    a = [Fraction(h) for h in heights]
    n = len(a)
    knots = [Fraction(0)] * (2 * n + 1)
    for i in range(n):
        for j in range(n):
            knots[i + j + 1] += a[i] * a[j] / n  # cells of width 1/n
    if problem is ac1:
        return max(knots) / (sum(a) / n) ** 2 * 2  # support 1/2 instead of 1
    segments = list(itertools.pairwise(knots))
    squares = sum((u * u + u * v + v * v) / (3 * n) for u, v in segments)
    area = sum((u + v) / (2 * n) for u, v in segments)
    return Fraction(squares / (area * max(knots)))


def by_convolution(problem: Autocorrelation, a: np.ndarray) -> float:
    """The bound from numpy's direct convolution, in long double."""
    long = a.astype(np.longdouble)
    c = np.convolve(long, long)
    if problem is ac1:
        return float(2 * len(a) * c.max() / long.sum() ** 2)
    y = np.pad(c, 1)
    squares = (y[:-1] ** 2 + y[:-1] * y[1:] + y[1:] ** 2).sum() / 3
    return float(squares / (c.sum() * c.max()))


def reason(problem: Autocorrelation, answer: object) -> str:
    with pytest.raises(InvalidAnswer) as raised:
        problem.judge(answer)
    return str(raised.value)


@pytest.mark.parametrize("length", [1, 2, 7, 1000, 7999])
def test_constant_heights_score_exactly_two_and_two_thirds(length: int) -> None:
    assert ac1.claim([0.3] * length) == 2
    assert ac2.claim([0.3] * length) == Fraction(2, 3)


@BOTH
@settings(deadline=None, max_examples=30)
@given(heights=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=7))
def test_the_exact_path_is_the_definition(problem: Autocorrelation, heights: list[float]) -> None:
    bound = definition(problem, heights)
    assert abs(problem.claim(heights) - bound) < Fraction(1, 10**25)  # the grid of 2^-100
    assert problem.score(problem.judge(heights).value) == pytest.approx(float(bound), abs=1e-11)


@BOTH
@pytest.mark.parametrize("length", [50, 1000, 3001])
@pytest.mark.parametrize("kind", ["uniform", "comb", "peaked", "wide"])
def test_both_paths_agree_with_an_independent_computation(
    problem: Autocorrelation, length: int, kind: str
) -> None:
    rng = np.random.default_rng(length)
    a = rng.uniform(0, 1, length)
    if kind == "comb":
        a *= rng.uniform(size=length) < 0.05
    elif kind == "peaked":
        a = a**30 + 1e-9
    elif kind == "wide":
        a = 10 ** rng.uniform(-300, 300, length)
    answer = a.tolist()
    expected = by_convolution(problem, a / a.max())
    assert float(problem.claim(answer)) == pytest.approx(expected, abs=1e-10)
    assert problem.score(problem.judge(answer).value) == pytest.approx(expected, abs=1e-10)


@BOTH
def test_published_starts_have_their_published_values(problem: Autocorrelation) -> None:
    heights = np.random.default_rng(42).uniform(size=1000)
    score = problem.score(problem.judge(heights.tolist()).value)
    assert round(score, 5) == {"ac1": 2.03774, "ac2": 0.65533}[problem.name]


@BOTH
def test_fifty_thousand_pieces_are_certified_within_seconds(problem: Autocorrelation) -> None:
    answer = np.random.default_rng(0).uniform(0, 1, 50_000).tolist()
    started = time.process_time()
    problem.claim(answer)
    assert time.process_time() - started < 3.0  # about 0.3 s


@BOTH
def test_the_score_does_not_depend_on_scale_or_refinement(problem: Autocorrelation) -> None:
    heights = np.random.default_rng(1).uniform(0, 1, 40)
    bound = problem.claim(heights.tolist())
    assert problem.claim((heights * 2.0**700).tolist()) == bound
    assert problem.claim(np.repeat(heights, 25).tolist()) == bound


@BOTH
def test_a_construction_that_was_judged_is_worth_exactly_the_same_again(
    problem: Autocorrelation,
) -> None:
    heights = (10 ** np.random.default_rng(2).uniform(-40, 3, 60)).tolist()
    first = problem.judge(heights, exact=True)
    assert first.construction is not None
    assert 0.5 <= first.construction.max() < 1
    assert problem.judge(first.construction.tolist(), exact=True).exact == first.exact


def test_rounding_of_the_transform_cannot_be_exploited() -> None:
    spikes = np.zeros(100_000)
    spikes[np.random.default_rng(1).integers(0, 100_000, 12)] = 1.0
    assert not precise(repair(spikes.tolist()))
    answer = spikes.tolist()
    assert ac1.judge(answer).exact is not None
    assert ac1.judge(answer).value == -float(ac1.claim(answer))


def test_tiny_negatives_become_zero_and_larger_ones_are_refused() -> None:
    assert ac1.claim([1.0, -1e-13, 1.0]) == ac1.claim([1.0, 0.0, 1.0])
    assert "negative" in reason(ac1, [1.0, -1e-11, 1.0])


@BOTH
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([], "length 0"),
        ([0.0, 0.0], "zero everywhere"),
        ([-1.0, -1.0], "negative"),
        ([True, False], "boolean"),
        (["0.5"], "string"),
        ([None], "null"),
        ([1.0, math.nan], "finite"),
        ([1.0, math.inf], "finite"),
        ([1.0, 10**400], "too large"),
        ([[1.0]], "a list"),
        ({"f": [1.0]}, "must be a list"),
        (1.0, "must be a list"),
        ([1.0] * 100_001, "length 100001"),
    ],
)
def test_a_wrong_answer_is_refused_with_its_reason(
    problem: Autocorrelation, answer: object, expected: str
) -> None:
    assert expected in reason(problem, answer)


def test_what_beats_a_theorem_is_an_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eurekaflow.verifiers.autocorrelation.PROVEN_LOWER_BOUND_C1", 2.5)
    monkeypatch.setattr("eurekaflow.verifiers.autocorrelation.PROVEN_UPPER_BOUND_C2", 0.5)
    for problem in (ac1, ac2):
        for exact in (False, True):
            with pytest.raises(ProvenBoundBroken):
                problem.judge([1.0] * 10, exact=exact)


@BOTH
def test_no_function_of_a_thousand_random_ones_passes_the_gates(problem: Autocorrelation) -> None:
    rng = np.random.default_rng(3)
    for _ in range(1000):
        problem.judge((rng.uniform(0, 1, 12) ** rng.uniform(0, 20)).tolist())  # raises if one did


@BOTH
def test_seeds_are_constant_heights_of_one_to_eight_thousand_cells(
    problem: Autocorrelation,
) -> None:
    seeds = problem.seeds(np.random.default_rng(0), 50)
    lengths = [len(s.construction) for s in seeds if s.construction is not None]
    assert min(lengths) >= 1000
    assert max(lengths) <= 7999
    assert len(set(lengths)) > 40
    for seed in seeds[:3]:
        assert seed.construction is not None
        assert seed.value == pytest.approx(problem.judge(seed.construction.tolist()).value)
        assert problem.archivable(seed.construction)


def test_only_a_thousand_to_a_hundred_thousand_cells_may_become_a_parent() -> None:
    sizes = {999: False, 1000: True, 100_000: True, 100_001: False}
    assert {n: ac1.archivable(np.ones(n)) for n in sizes} == sizes


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("brief", [True, False])
def test_the_start_program_improves_on_its_seed_in_the_sandbox(
    problem: Autocorrelation, brief: bool
) -> None:
    seed = problem.seeds(np.random.default_rng(0), 1, brief=brief)[0]
    job = problem.job(seed.program, parent=seed.construction, seed=1, budget_s=4.0)
    with ProcessSandbox(1) as sandbox, Judge(1) as judge:
        execution = sandbox.run(job, problem.limits(budget_s=20.0))
        verdict = judge.verdict(problem.name, execution)
    assert execution.cause is Cause.RETURNED, execution
    assert verdict.value is not None
    assert verdict.value > seed.value + 0.1
    assert problem.archivable(verdict.construction)


@BOTH
def test_the_candidates_copy_of_the_check_agrees_with_ours(problem: Autocorrelation) -> None:
    space: dict[str, object] = {"np": np}
    exec(compile(problem.prelude(), "<prelude>", "exec"), space)
    evaluate = space["evaluate_sequence"]
    assert callable(evaluate)
    heights = np.random.default_rng(5).uniform(0, 1, 300)
    ours = problem.score(problem.judge(heights.tolist()).value)
    assert evaluate(heights) == pytest.approx(ours, rel=1e-12)
    assert evaluate([1.0, -1.0]) in (math.inf, 0.0)


EASY = """
from eurekaflow.verifiers.autocorrelation import AC1, AC2
from eurekaflow.verifiers.problem import Record

class Easy({parent}):
    name = "easy"
    records = (Record(holder="somebody", score={score}, kind="human", source="nowhere"),)
"""


@BOTH
def test_what_beats_the_record_is_measured_exactly_in_the_run(
    problem: Autocorrelation, tmp_path: Path
) -> None:
    good = {"ac1": [0.7, 0.2, 1.0, 0.7], "ac2": [0.5, 1.0, 1.0, 0.5]}[problem.name]
    file, score = tmp_path / "easy.py", problem.score(problem.start_value + 1e-6)
    file.write_text(EASY.format(parent=type(problem).__name__, score=score))
    with Judge(1) as judge:
        equal, better = (
            judge.verdict(str(file), Execution(cause=Cause.RETURNED, result=data))
            for data in (b"[1.0, 1.0, 1.0, 1.0]", json.dumps(good).encode())
        )
    assert (equal.mode, equal.exact) == ("training", "")
    assert better.mode == "exact"
    assert Fraction(better.exact) == problem.claim(good)


def test_rewards_are_one_over_the_first_bound_and_the_second_itself() -> None:
    assert ac1.reward(-1.6) == 0.625
    assert ac2.reward(0.8) == 0.8


@given(
    st.lists(st.integers(0, 2**70), min_size=1, max_size=9).filter(any),
    st.lists(st.integers(0, 2**12), min_size=1, max_size=9).filter(any),
)
def test_the_big_product_is_the_convolution(a: list[int], b: list[int]) -> None:
    expected = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            expected[i + j] += x * y
    assert kronecker.convolution(a, b) == expected
