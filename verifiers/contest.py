"""What heuristic contests share: cases by seed, the limits of a case, and one score per case.

A program in C++20 (or Python) reads a case from standard input and prints an answer. A run judges
every program on the first `count` of the local seeds 0 to 149, its training set; seeds held out
from it (`final_cases`) decide what is reported. The value of a program is its mean case score;
the score as printed is the sum over the cases run, never scaled up to others. Published scores are
sums over the 150 official cases, so only those on all of them are compared. One case that fails
fails the program.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np

from eurekaflow.verifiers.contest_text import InvalidOutput
from eurekaflow.verifiers.cpp import require_compiler
from eurekaflow.verifiers.problem import (
    EXACT,
    TRAINING,
    InvalidAnswer,
    Judgement,
    Problem,
    Record,
    Remeasurement,
    Seed,
)
from eurekaflow.verifiers.sandbox import Limits, Sandbox

if TYPE_CHECKING:
    from eurekaflow.verifiers.judge import Judge

CASES = 150  # of an official set, and local seeds 0 … 149
CPU_S = 2.0  # user and system together, threads included
WALL_S = 2.5  # the contest's limit with its tolerance
KILL_CPU_S, KILL_WALL_S = 3.1, 4.5
MEMORY_BYTES = 1 << 30
OUTPUT_BYTES = 4 << 20
FOLDER = Path(__file__).resolve().parent
METRIC = "sum over the cases run"  # the archive's views know it, models/view_definitions.py
OFFICIAL = "official"
HEADER = '#include "baseline.hpp"'


def data(name: str) -> Any:
    """A JSON file that ships beside this module."""
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


class Contest(Problem):
    """One contest problem; `texts` is the module with its words and its starting programs."""

    answer = "cpp"
    entry_point = ""
    same_by = "program"  # a construction is what it prints on one of its cases
    direction = "max"
    metric = METRIC
    reward_unit: ClassVar[float]  # mean case score that earns the reward 1
    texts: ClassVar[ModuleType]
    official_seeds: ClassVar[tuple[int, ...]] = ()  # held out: final scoring only

    count = CASES
    modes: ClassVar[tuple[str, ...]] = (
        TRAINING,
        EXACT,
    )  # the judge counts in whole numbers: every mode is exact
    finalists = 3
    case_target: ClassVar[float]  # a case score slightly better than the record's mean
    timed = True
    held_out: Sequence[int] = ()  # the cases instead of the local ones, when there are any

    def generate_input(self, seed: int) -> str:
        """The official input of a u64 seed."""
        raise NotImplementedError

    def case_score(self, input_text: str, output_text: str) -> int:
        """The judge's score of one case. Raises InvalidOutput."""
        raise NotImplementedError

    def __init__(self) -> None:
        self._told(f"{CASES} local cases")

    def with_cases(self, count: int) -> Self:
        made = copy.copy(self)
        made.count, made.held_out = min(count, CASES), ()
        made._told(f"{made.count} local cases")
        return made

    def held_out_cases(self, count: int = CASES) -> Self:
        """This problem on the first `count` of the cases that no training sees."""
        made = copy.copy(self)
        made.held_out = tuple(self.final_cases())[:count]
        made._told(f"{len(made.held_out)} {'official' if self.official_seeds else 'fresh'} cases")
        return made

    def _told(self, cases: str) -> None:
        self.described_cases = cases
        self.target = self.case_target * len(self.cases())

    def require(self) -> None:
        require_compiler()

    def cases(self) -> Sequence[int]:
        return self.held_out or range(self.count)

    def remeasure(
        self, program: str, *, spec: str, sandbox: Sandbox, judge: Judge
    ) -> Sequence[Remeasurement]:
        """The mean over the 150 held-out cases."""
        from eurekaflow.verifiers.contest_trial import trial

        final = self.held_out_cases()
        tried = trial(
            cast(Any, final),  # mypy sees this module under two names when it checks the folder
            spec,
            program,
            sandbox=sandbox,
            judge=judge,
            workers=1,
        )
        verdict = tried.verdict
        if verdict.value is None:
            raise InvalidAnswer(f"it fails on held-out inputs: {verdict.message}")
        return [
            Remeasurement(
                mode="held-out",
                value=verdict.value,
                message=final.described_cases,
                score=final.score(verdict.value),
            )
        ]

    def final_cases(self, *, seed: int = 0) -> Sequence[int]:
        """150 seeds that no training sees: the official ones where public, else fresh ones."""
        return self.official_seeds or self.fresh_cases(CASES, seed=seed)

    def fresh_cases(self, count: int, *, seed: int) -> Sequence[int]:
        """`count` random u64 seeds beyond the local ones, a function of `seed`."""
        rng = np.random.default_rng([seed, CASES])
        return tuple(int(s) for s in rng.integers(1 << 32, 1 << 64, count, dtype=np.uint64))

    def statement(self, *, brief: bool = False) -> str:
        text: str = self.texts.BRIEF if brief else self.texts.FULL
        return text

    def opening(self) -> str:
        text: str = self.texts.OPENING
        return text

    def seeds(
        self, rng: np.random.Generator, count: int, *, brief: bool = False
    ) -> Sequence[Seed]:
        """The greedy baseline with its measured value on the cases; small models vary a part."""
        known = data(f"{self.name}_baseline.json")["scores"][: self.count]
        value = sum(known) / len(known)
        program = self.texts.EXAMPLE if brief else self.standalone(self.texts.EXAMPLE)
        return [Seed(value=value, program=program)] * count

    def standalone(self, program: str) -> str:
        """The program with our `baseline.hpp` written out: what a contest site accepts."""
        if HEADER not in program:
            return program
        return program.replace(HEADER, (FOLDER / f"{self.name}_baseline.hpp").read_text(), 1)

    def limits(self, *, budget_s: float) -> Limits:
        """The contest's own, whatever the budget of the run."""
        return Limits(
            wall_s=KILL_WALL_S,
            cpu_s=KILL_CPU_S,
            memory_bytes=MEMORY_BYTES,
            result_bytes=OUTPUT_BYTES,
        )

    def judge(self, answer: object, *, exact: bool = False) -> Judgement:
        """The score of one case, given as {"seed": u64, "output": text}; always exact."""
        match answer:
            case {"seed": int(seed), "output": str(output)}:
                return Judgement(value=float(self.case_score(self.generate_input(seed), output)))
        raise InvalidAnswer(f"a program is judged case by case, not {type(answer).__name__}")

    def reward(self, value: float) -> float:
        return value / self.reward_unit

    def score(self, value: float) -> float:
        """The sum over the cases run: the value is the mean of whole numbers."""
        return float(round(value * len(self.cases())))

    def value(self, score: float) -> float:
        return score / len(self.cases())

    def comparable(self, *, mode: str) -> Sequence[Record]:
        """None, unless the cases are all of the official ones."""
        official = self.official_seeds and tuple(self.cases()) == self.official_seeds
        return self.records if official else ()


__all__ = ["Contest", "InvalidOutput", "data"]
