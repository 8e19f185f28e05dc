"""TriMul: the triangle multiplicative update of AlphaFold, as a kernel against the clock.

Cases, distributions and tolerance: `trimul_task` (not imported here: it needs torch).
"""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

from eurekaflow.verifiers import trimul_texts
from eurekaflow.verifiers.gpu_plan import Plan
from eurekaflow.verifiers.gpu_problem import Kernel, gpu_model, records_of
from eurekaflow.verifiers.gpu_verdict import OFFICIAL


class TriMul(Kernel):
    """Minimise the geometric mean of seven cases' times."""

    name = "trimul"
    version = "3"
    title = "TriMul, a GPU kernel"
    target = 1000.0
    task = "trimul"
    starter = "trimul_kernel.py"
    plain_starter = "trimul_plain.py"
    statement_text = trimul_texts.FULL
    brief_text = trimul_texts.BRIEF
    records = (
        *records_of(trimul_texts.RECORDS, gpu_model()),
        *records_of(trimul_texts.OURS, gpu_model()),
    )

    def opening(self) -> str:
        return trimul_texts.OPENING

    def plan(self, mode: str) -> Plan:
        plan = Plan(
            task=self.task,
            entry=self.entry_point,
            benchmarks=cases("BENCHMARKS"),
            tests=cases("TESTS"),
            hidden=cases("HIDDEN_SHAPES"),
        )
        if mode != OFFICIAL:
            return plan
        return replace(plan, mode=OFFICIAL, hidden=(), tests=unmasked(plan.tests),
                       benchmarks=unmasked(plan.benchmarks))  # fmt: skip


def cases(name: str, file: str = "trimul_task.py") -> list[dict[str, Any]]:
    """A list of cases of a task's module, read from its source: that needs no torch."""
    tree = ast.parse((Path(__file__).resolve().parent / file).read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            assert isinstance(node.value, ast.Tuple)
            return [_arguments(item) for item in node.value.elts]
    raise LookupError(f"{file} has no list {name}")


def _arguments(call: ast.expr) -> dict[str, Any]:
    assert isinstance(call, ast.Call)
    return {str(given.arg): ast.literal_eval(given.value) for given in call.keywords}


def unmasked(given: Any) -> list[dict[str, Any]]:
    """The cases with masks of ones."""
    return [{**case, "mask": False} for case in given]
