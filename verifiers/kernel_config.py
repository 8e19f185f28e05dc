"""Kernel configuration: find the tiles, warps and stages with which our TriMul kernel is fastest.

The answer is a JSON object; what it leaves out stays as in the kernel. Measured like `trimul`, in
strict mode, on the same seven cases and fewer tests: a search that a small model can win.
"""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import replace

from eurekaflow.verifiers.answers import parse
from eurekaflow.verifiers.gpu_plan import Plan
from eurekaflow.verifiers.gpu_problem import FOLDER, Kernel
from eurekaflow.verifiers.problem import InvalidAnswer
from eurekaflow.verifiers.trimul import cases, unmasked

KERNEL = "trimul_kernel.py"
TILES, WARPS, STAGES = (32, 64, 128, 256), (2, 4, 8, 16), (1, 2, 3, 4, 5)
CHOICES: dict[str, tuple[object, ...]] = {
    "normalise_elements": (1024, 2048, 4096, 8192, 16384),
    "normalise_warps": WARPS,
    "rows": (16, 32, 64, 128, 256),
    "depth": (16, 32, 64, 128),
    "split": (1, 3),
    "project_warps": WARPS,
    "project_stages": STAGES,
    "product": ("cublas", "triton"),
    "tile_m": TILES,
    "tile_n": TILES,
    "tile_k": (16, 32, 64, 128),
    "product_warps": WARPS,
    "product_stages": STAGES,
    "finish_rows": (16, 32, 64, 128, 256),
    "finish_columns": (16, 32, 64, 128, 256),
    "finish_warps": WARPS,
    "finish_stages": STAGES,
}
LISTED = "\n".join(f"{name}: one of {', '.join(map(str, v))}" for name, v in CHOICES.items())
FULL = f"""\
A Triton implementation of AlphaFold's triangle multiplicative update has four steps: `normalise`
(LayerNorm), `project` (five projections, gates), a batched matrix product, `finish` (LayerNorm,
gate, output projection). Choose their tile sizes, warps and pipeline stages, so that it is as fast
as possible on this GPU. The answer is one JSON object; what it leaves out keeps its default:

{LISTED}

The score is the geometric mean of the times of seven cases in microseconds, lower is better.
Configurations that need more shared memory or registers than there are fail.
"""
BRIEF = f"""\
Choose the numbers of a GPU kernel in one JSON object. Lower microseconds are better.
{LISTED}
"""


def kernel_hash() -> str:
    """What the kernel's source is, in short: times of another source are of another problem."""
    return hashlib.sha256((FOLDER / KERNEL).read_bytes()).hexdigest()[:12]


class KernelConfig(Kernel):
    """Minimise the time of our TriMul kernel over its configuration."""

    name = "kernel-config"
    version = f"4-{kernel_hash()}"
    title = "Kernel configuration, TriMul in Triton"
    answer = "json"
    task = "trimul"
    starter = plain_starter = KERNEL
    statement_text = FULL
    brief_text = BRIEF
    ours = True

    def opening(self) -> str:
        return '```json\n{"rows":'

    def plan(self, mode: str) -> Plan:
        tests = cases("TESTS")
        plan = Plan(
            task=self.task,
            entry=self.entry_point,
            benchmarks=cases("BENCHMARKS"),
            tests=[tests[0], tests[5], tests[8]],  # of the timed widths: no other compilation
            hidden=cases("HIDDEN_SHAPES")[:1],
            profile=False,  # it would refuse cheats, and the program is ours
        )
        if mode != "official":
            return plan
        return replace(plan, mode=mode, hidden=(), tests=unmasked(plan.tests),
                       benchmarks=unmasked(plan.benchmarks))  # fmt: skip

    def program_of_start(self, *, brief: bool = False) -> str:
        return json.dumps(default_config())

    def program_of(self, answer: str) -> str:
        """The kernel with the answer's numbers in it. Raises InvalidAnswer."""
        given = parse(answer.encode())
        if not isinstance(given, dict):
            raise InvalidAnswer("the answer must be one JSON object")
        for name, value in given.items():
            if name not in CHOICES:
                raise InvalidAnswer(f"{name!r} is no setting; there are: {', '.join(CHOICES)}")
            allowed = CHOICES[name]
            if isinstance(value, bool) or value not in allowed or isinstance(value, float):
                raise InvalidAnswer(
                    f"{name} is {value!r}, allowed: {', '.join(map(str, allowed))}"
                )
        source, config = _kernel()
        old = ast.get_source_segment(source, config)
        assert old is not None
        return source.replace(old, repr({**default_config(), **given}), 1)


def default_config() -> dict[str, object]:
    """The kernel's own configuration."""
    found: dict[str, object] = ast.literal_eval(_kernel()[1])
    return found


def _kernel() -> tuple[str, ast.expr]:
    """The kernel's source, and where its configuration stands in it."""
    source = (FOLDER / KERNEL).read_text()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "CONFIG":
            return source, node.value
    raise LookupError(f"{KERNEL} has no CONFIG")
