"""Somebody else's problem run unmodified: a folder with an initial program and an evaluator.

A foreign evaluator runs the candidate itself, so both share one sandbox: the walls of any other
candidate, but with further processes and a larger private /tmp. The evaluator's word is all there
is, and the candidate can forge it: such a problem has `trust = "foreign"` and can claim nothing.

The value is `combined_score`, or else the mean of the numeric metrics as in OpenEvolve, without
`error`, truth values and the configuration's feature dimensions. Higher is better.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from eurekaflow.verifiers import evolve_block, foreign_driver, foreign_package
from eurekaflow.verifiers.answers import parse
from eurekaflow.verifiers.foreign_folder import Folder, read
from eurekaflow.verifiers.problem import (
    TRAINING,
    Construction,
    InvalidAnswer,
    Judgement,
    Problem,
    ProblemUnusable,
    Seed,
)
from eurekaflow.verifiers.sandbox import Cause, Job, Limits

PREFIX = "foreign:"  # of the name, so that no folder is taken for a problem of ours
ENTRY = "evaluate_candidate"
RETURNED, RAISED = {"metrics", "stage"}, {"raised"}  # what the driver answers
PROCESSES = 32
SCRATCH_BYTES = 512 << 20
START_S = 10.0  # beyond the evaluator's own time: unpacking, starting interpreters
BRIEF_CHARACTERS = 600
CHARACTERS_PER_TOKEN, MOST_TOKENS = 3, 1024  # of program text; half of the small presets' window
TASK = "Improve the program below: its evaluator scores it, and higher is better."
BLOCK = (
    "Your program replaces the block between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END, shown below "
    "as the program to start from. Everything around the block is kept as it is:"
)


class ForeignProblem(Problem):
    """The problem that a folder is; `load` makes one class per folder."""

    trust = "foreign"
    direction = "max"
    metric = "combined_score"
    entry_point = ""  # the evaluator knows what it calls
    modes = (TRAINING,)
    claim_mode = TRAINING
    told_budget = False
    folder: ClassVar[Folder]

    def statement(self, *, brief: bool = False) -> str:
        """The configuration's message, or the docstrings; what to keep when there is a block."""
        task = self.folder.task or self._documented() or TASK
        if brief:
            return _shortened(task) + self._keep()
        around = evolve_block.frame(self.folder.program)
        kept = f"\n\n{BLOCK}\n```python\n{around.strip()}\n```" if around else self._keep()
        return f"{task}{kept}\n\nAn evaluator scores it by `{self.metric}`; higher is better."

    def _documented(self) -> str:
        """The first docstrings of initial program and evaluator."""
        texts = []
        for name in (self.folder.initial, self.folder.evaluator):
            try:
                source = (self.folder.path / name).read_text(encoding="utf-8")
                texts.append(ast.get_docstring(ast.parse(source)) or "")
            except (SyntaxError, UnicodeDecodeError):
                continue
        told = "\n\n".join(filter(None, texts))
        return f"{TASK}\n\n{told}" if told else ""

    def _keep(self) -> str:
        """The functions and classes that a rewritten part must go on defining."""
        try:
            body = ast.parse(evolve_block.excerpt(self.folder.program)).body
        except SyntaxError:
            return ""
        defined = [n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        names = ", ".join(f"`{name}`" for name in defined)
        return f"\nKeep defining {names}." if names else ""

    def opening(self) -> str:
        """A small model answers with a program at once."""
        return "```python\n"

    def answer_tokens(self) -> int:
        """Room for half as much again as the part of the initial program that may change."""
        part = evolve_block.excerpt(self.folder.program)
        return min(MOST_TOKENS, round(1.5 * len(part) / CHARACTERS_PER_TOKEN) + 32)

    def complete(self, program: str) -> str:
        """The whole program: the initial one with the answer in the place of its block."""
        return evolve_block.complete(self.folder.program, program)

    def excerpt(self, program: str) -> str:
        """The block that may change, without what stands around it."""
        return evolve_block.excerpt(program)

    def job(self, program: str, *, parent: Construction | None, seed: int, budget_s: float) -> Job:
        """The evaluator and the candidate in one sandbox."""
        folder, needs_scipy = self.folder, any(b"scipy" in f for f in self.folder.files.values())
        return Job(
            program=Path(foreign_driver.__file__).read_text(encoding="utf-8"),
            entry_point=ENTRY,
            prelude="# preload scipy" if needs_scipy or "scipy" in program else "",
            arguments={
                "source": program,
                "folder": folder.packed,
                "evaluator": folder.evaluator,
                "suffix": Path(folder.initial).suffix,
                "thresholds": folder.thresholds,
                "package": foreign_package.FILES,
            },
            seed=seed,
        )

    def limits(self, *, budget_s: float) -> Limits:
        """The folder's own time for every stage, whatever candidates of other problems get."""
        seconds = self.folder.timeout_s * self.folder.stages + START_S
        return Limits(
            wall_s=seconds,
            cpu_s=seconds,
            processes=PROCESSES,
            scratch_bytes=SCRATCH_BYTES,
            result_bytes=1 << 20,
        )

    def judge(self, answer: object, *, exact: bool = False) -> Judgement:
        """The evaluator's own score, read strictly; a failure that it reports is invalid."""
        if not isinstance(answer, dict) or answer.keys() not in (RETURNED, RAISED):
            raise InvalidAnswer("this is not what an evaluator returned")
        if "raised" in answer:
            raise InvalidAnswer(f"the evaluator raised {answer['raised']}")
        metrics = answer["metrics"]
        if not isinstance(metrics, dict) or not metrics:
            raise InvalidAnswer("the evaluator returned no metrics")
        reason = _failure(metrics)
        if reason and not _numbers(metrics):
            raise InvalidAnswer(f"the evaluator reports: {reason}")
        value = _value(metrics, self.folder.features)
        if value <= 0 and reason:
            raise InvalidAnswer(f"the evaluator reports: {reason}")
        return Judgement(value=value, metrics=_numbers(metrics))

    def reward(self, value: float) -> float:
        """1 + value above zero and 1 / (1 - value) below: any valid program beats a failure."""
        return 1.0 + value if value >= 0 else 1.0 / (1.0 - value)

    def prove(self) -> None:
        """Measure the initial program, so that a folder that cannot work is refused at once."""
        _ = self._first

    def seeds(
        self, rng: np.random.Generator, count: int, *, brief: bool = False
    ) -> Sequence[Seed]:
        """The initial program with the evaluator's score of it."""
        return [self._first] * count

    @cached_property
    def _first(self) -> Seed:
        """Raises ProblemUnusable when the evaluator gives the initial program no value."""
        from eurekaflow.verifiers.process import ProcessSandbox

        program = self.folder.program
        job = self.job(program, parent=None, seed=0, budget_s=0)
        with ProcessSandbox(1, required=frozenset({"private-tmp"})) as sandbox:
            execution = sandbox.run(job, self.limits(budget_s=0))
        try:
            if execution.cause is not Cause.RETURNED or execution.result is None:
                raise InvalidAnswer(f"{execution.cause}: {execution.message}")
            value = self.judge(parse(execution.result)).value
        except InvalidAnswer as reason:
            said = execution.stdout.decode(errors="replace").strip()[-800:]
            absent = self.folder.absent()
            raise ProblemUnusable(
                f"{self.folder.evaluator} gives {self.folder.initial} no value: {reason}"
                + (f"; not installed, by requirements.txt: {', '.join(absent)}" if absent else "")
                + (f"\n{said}" if said else ""),
                fix=_install(str(reason), absent),
            ) from None
        return Seed(value=value, program=program)


def _install(reason: str, absent: Sequence[str]) -> str:
    """The command that brings what is not there; "" if that is not the reason."""
    missing = re.search(r"No module named '(\w+)", reason)
    names = absent or ([missing[1]] if missing else [])
    return f"pip install {' '.join(names)}" if missing else ""


def load(path: Path) -> Problem:
    """The problem of a folder. Raises ProblemUnusable."""
    folder = read(path)
    name = re.sub(r"[^\w.-]+", "-", folder.path.name) or "folder"
    facts: dict[str, Any] = {
        "__doc__": f"The folder {folder.path}.",
        "name": PREFIX + name,
        "version": folder.digest,
        "title": f"{name}, scored by its own evaluator",
        "folder": folder,
    }
    made: type[Problem] = type("FolderProblem", (ForeignProblem,), facts)
    return made()


def _value(metrics: Mapping[str, object], features: frozenset[str]) -> float:
    """The combined score, or the mean of the numbers."""
    if "combined_score" in metrics:
        value = metrics["combined_score"]
        if not isinstance(value, float | int) or isinstance(value, bool):
            raise InvalidAnswer(f"combined_score is {value!r}, not a finite number")
        return float(value)
    used = {k: v for k, v in _numbers(metrics).items() if k != "error" and k not in features}
    if not used:
        raise InvalidAnswer(f"no metric is a number: {', '.join(map(str, metrics))}")
    return math.fsum(used.values()) / len(used)


def _numbers(metrics: Mapping[str, object]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, float | int) and not isinstance(value, bool)
    }


def _failure(metrics: Mapping[str, object]) -> str:
    """Why the evaluator counts a worthless candidate as failed; "" when it does not."""
    if isinstance(said := metrics.get("error"), str) and said:
        return said
    if metrics.get("timeout") is True:
        return "timeout"
    refused = [n for n in ("validity", "valid", "is_valid") if metrics.get(n) in (0.0, False)]
    return f"{refused[0]} is 0" if refused else ""


def _shortened(task: str) -> str:
    """The first sentences, for small models."""
    if len(task) <= BRIEF_CHARACTERS:
        return task
    cut = task[:BRIEF_CHARACTERS]
    end = max(cut.rfind(". "), cut.rfind(".\n"), cut.rfind("\n\n"))
    return cut[: end + 1].strip() if end > 0 else cut
