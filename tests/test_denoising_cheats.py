"""Every trick against the denoising metrics: what official pays, and why strict does not.

The docstring of each program in tests/cheats/denoising/ ends with what the official mode says (an
outcome, or the score that it is fooled into) and what must come of it in strict mode.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from eurekaflow.verifiers.denoising import Denoising
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import Outcome, Verdict
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Sandbox

pytestmark = pytest.mark.slow

CHEATS = sorted((Path(__file__).parent / "cheats/denoising").glob("*.py"))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with ProcessSandbox(1) as opened:
        yield opened


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(1) as opened:
        yield opened


def verdicts(path: Path, sandbox: Sandbox, judge: Judge) -> tuple[Verdict, Verdict, Verdict]:
    """The verdicts of a program in training, official and strict mode."""
    problem = load("denoising")
    job = problem.job(path.read_text(encoding="utf-8"), parent=None, seed=3, budget_s=1.0)
    limits = replace(problem.limits(budget_s=1.0), memory_bytes=1 << 30)
    if path.stem != "endless":
        limits = replace(limits, wall_s=60.0, cpu_s=60.0)
    else:
        limits = replace(limits, wall_s=1.0)
    execution = sandbox.run(job, limits)
    first, second, third = (
        judge.verdict("denoising", execution, mode=mode) for mode in Denoising.modes
    )
    return first, second, third


@pytest.mark.parametrize("path", CHEATS, ids=lambda p: p.stem)
def test_a_cheat_earns_in_strict_mode_what_it_is_worth(
    path: Path, sandbox: Sandbox, judge: Judge
) -> None:
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    official_line, strict_line = said.splitlines()[-2:]
    fooled, expected = official_line.removeprefix("official: "), strict_line[len("expect: ") :]
    training, official, strict = verdicts(path, sandbox, judge)
    if official.value is None:
        assert str(official.outcome) in fooled.split(" or ")
    else:
        assert official.value == pytest.approx(float(fooled), abs=0.02)
    if expected.startswith("at most"):
        assert strict.value is not None, strict
        assert max(strict.value, training.value or 0.0) <= float(expected.split()[-1])
        return
    outcome, _, message = expected.partition(":")
    assert (strict.outcome, strict.value, strict.reward) == (Outcome(outcome), None, 0.0)
    assert message.strip() in strict.message
