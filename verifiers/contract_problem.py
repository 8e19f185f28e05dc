"""The conformance tests that every problem must pass; shipped for authors of problems.

Subclass `ProblemContract` in a test module and name the problem, by id or by path:

    class TestMine(ProblemContract):
        spec = "my_problem.py"

The tests are the checks of `eureka problem check`, which prints them with their remedies: seeds
are finite and follow from the generator, the verifier says the same twice (up to the `noise` that
the problem declares), refuses what is no answer and hostile output, does not trip over answers of
another shape, and the time limits hold. A problem that needs a server gives a `service` fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import pytest

from eurekaflow.verifiers.fitness import examine
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.safety import Bench, Finding

PROPERTIES = (
    "statement", "seeds", "rejects no answer", "rejects hostile output", "time limits",
    "rejects other shapes", "deterministic", "verifier speed",
)  # fmt: skip


class Examination:
    """The findings about one problem, made when they are first asked for."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    @cached_property
    def findings(self) -> dict[str, Finding]:
        """By name."""
        return {finding.name: finding for finding in examine(self._bench)}


class ProblemContract:
    """See the module; `budget_s` is what the seeds' programs are told they have."""

    spec: ClassVar[str]
    budget_s: ClassVar[float] = 2.0

    @pytest.fixture(scope="class")
    def service(self) -> str:
        """The URL of the server that the problem needs."""
        return ""

    @pytest.fixture(scope="class")
    def examination(self, service: str) -> Iterator[Examination]:
        """Everything that is found out about the problem, once for all tests."""
        problem = load(self.spec)
        problem.require()
        judge = Judge(1, wall_s=problem.verification_s, service=service)
        with judge, ProcessSandbox(1) as sandbox:
            yield Examination(
                Bench(
                    spec=self.spec,
                    problem=problem,
                    judge=judge,
                    sandbox=sandbox,
                    budget_s=self.budget_s,
                )
            )

    @pytest.mark.parametrize("name", PROPERTIES)
    def test_the_problem_keeps_its_contract(self, name: str, examination: Examination) -> None:
        found = examination.findings.get(name)
        assert found is not None, f"{name} could not be examined: no seed gives a valid answer"
        assert found.status != "fail", f"{name}: {found.message}; {found.fix}"
        assert "unforeseen exception" not in found.message, f"{name}: {found.message}"
