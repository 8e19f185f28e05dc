"""Every cheat on file, through the real sandbox and judge: none earns more than it is worth."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import Outcome
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Sandbox
from tests.cheats import published

FOLDER = Path(__file__).parent / "cheats"
PROBLEM_OF = {"any": "erdos", "circle-packing": "circle-packing-26"}
ELSEWHERE = {"denoising", "trimul"}  # in tests of their own
CHEATS = sorted(p for p in FOLDER.glob("*/*.py") if p.parent.name not in ELSEWHERE)
BUDGET_S = 0.5
PATIENCE_S = 60.0  # for whatever does not have to be ended by the clock


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with ProcessSandbox(1) as opened:
        yield opened


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(1) as opened:
        yield opened


def expectation(source: str) -> tuple[str, str]:
    """(outcome or `honest`, part of the message or value) from the docstring's last line."""
    last = (ast.get_docstring(ast.parse(source)) or "").splitlines()[-1]
    word, outcome, rest = last.split(":", 2)
    assert word == "expect"
    return outcome.strip(), rest.strip()


@pytest.mark.slow
@pytest.mark.parametrize("file", CHEATS, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_a_cheat_earns_nothing_for_the_right_reason(
    file: Path, sandbox: Sandbox, judge: Judge
) -> None:
    source = file.read_text(encoding="utf-8")
    outcome, expected = expectation(source)
    problem = load(PROBLEM_OF.get(file.parent.name, file.parent.name))
    start = problem.seeds(np.random.default_rng(0), 1, brief=True)[0]
    job = problem.job(source, parent=start.construction, seed=0, budget_s=BUDGET_S)
    limits = replace(problem.limits(budget_s=BUDGET_S), memory_bytes=1 << 30)
    if outcome != "timeout":
        limits = replace(limits, wall_s=PATIENCE_S, cpu_s=PATIENCE_S)
    verdict = judge.verdict(problem.name, sandbox.run(job, limits))
    if outcome == "honest":
        assert verdict.outcome is Outcome.VALID, verdict
        assert verdict.value == pytest.approx(float(expected), abs=1e-7)
        return
    assert (verdict.outcome, verdict.reward, verdict.value) == (Outcome(outcome), 0.0, None)
    assert expected in verdict.message


def masked_heights() -> np.ma.MaskedArray:
    """Cells of 1 in the open, and masked ones of -1 that only the correlation sees."""
    data = np.where(np.random.default_rng(0).permutation(200) < 100, 1.0, -1.0)
    return np.ma.array(data, mask=data < 0)


def test_a_masked_array_takes_the_published_erdos_check_below_the_proven_bound() -> None:
    h = masked_heights()
    computed = float(np.max(np.correlate(h, 1.0 - h, mode="full")) * 2.0 / 200)
    assert published.erdos(h, computed, 200) < 0.379005


def test_the_published_erdos_check_accepts_a_claim_that_is_too_good() -> None:
    assert published.erdos([0.5] * 50, 0.5 - 1.04e-4, 50) == 0.5 - 1.04e-4


def test_masked_centers_let_radii_of_ten_pass_the_published_packing_check() -> None:
    centers = np.ma.array(np.full((26, 2), 0.5), mask=True)
    assert published.packing(centers, np.full(26, 10.0)) == 260.0


def test_half_precision_lets_a_circle_leave_the_square_in_the_published_packing_check() -> None:
    centers = np.array([[0.75, 0.5]], dtype=np.float16)
    radii = np.array([0.25 + 2**-11], dtype=np.float16)
    assert published.packing(centers, radii) - 0.25 == pytest.approx(4.9e-4, abs=2e-6)
    with pytest.raises(ValueError, match="outside"):
        published.packing(centers.astype(float), radii.astype(float))


def test_single_precision_lets_circles_overlap_in_the_published_packing_check() -> None:
    centers = np.array([[0.25, 0.5], [0.75, 0.5]], dtype=np.float32)
    radii = np.array([0.25, np.nextafter(np.float32(0.25), np.float32(1))], dtype=np.float32)
    assert radii.astype(float).sum() > 0.5
    assert published.packing(centers, radii) == 0.5
    with pytest.raises(ValueError, match="outside"):
        published.packing(centers.astype(float), radii.astype(float))


def test_the_published_autocorrelation_check_misjudges_what_ours_scores_exactly() -> None:
    ours = load("ac1")
    assert published.first_autocorrelation([True] * 4) < np.inf
    assert published.first_autocorrelation([1e-6] * 1000) == np.inf
    assert ours.judge([1e-6] * 1000).value == pytest.approx(-2.0)
    tall = [1e6, 1000.0]
    assert published.first_autocorrelation(tall) == pytest.approx(2.0)
    assert -ours.judge(tall).value > 3.9
