"""Erdős' minimum overlap problem: step functions h on [0, 2] with the smallest overlap C5.

h has n equal cells, 0 <= h <= 1 and integral 1, so sum h_i = n/2. The overlap at lag k is
(2/n) sum_i h_i (1 - h_{i+k}), terms outside dropped; between whole lags it is linear, so the
maximum over whole lags, C5(h), is the exact supremum. Every valid h proves an upper bound of
Erdős' constant. Haugland, "The minimum overlap problem revisited", 2016; lower bound 0.379005:
White, "Erdős' minimum overlap problem", 2023.

What is scored is the *repaired* function, which satisfies every rule exactly: h is rescaled to
sum n/2 in rational arithmetic; cells that rounding left above 1 by at most 1e-9 are set to 1 and
the others rescaled. A claimed score is compared and logged, never used.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from eurekaflow.verifiers import erdos_texts, erdos_tools, pictures
from eurekaflow.verifiers.answers import number, numbers, whole
from eurekaflow.verifiers.erdos_tools import c5
from eurekaflow.verifiers.kronecker import correlation, to_integers
from eurekaflow.verifiers.problem import (
    EXACT,
    TRAINING,
    VERIFY,
    Construction,
    InvalidAnswer,
    Judgement,
    Problem,
    ProvenBoundBroken,
    Record,
    Seed,
)

PROVEN_LOWER_BOUND = 0.379005  # White 2023
LONGEST_IN_TRAINING = 1_000
LONGEST_CLAIM = 20_000
REPAIRABLE = Fraction(1, 10**9)  # cells above 1 by at most this are rounding


class Erdos(Problem):
    """Minimise C5(h) over step functions h on [0, 2]."""

    name = "erdos"
    version = "2"
    title = "Erdős' minimum overlap problem"
    direction = "min"
    metric = "C5"
    modes = (TRAINING, EXACT, VERIFY)
    entry_point = "run"
    construction_name = "initial_h_values"
    target = 0.3808
    records = (
        Record(
            holder="Haugland 2016",
            score=0.380927,
            kind="human",
            role="human",
            mode="float64",
            source="The minimum overlap problem revisited, arXiv 1609.08000 (51 cells)",
        ),
        Record(
            holder="AlphaEvolve",
            score=0.380924,
            kind="ai",
            role="previous AI",
            mode="float64, sum exactly n/2",
            source="AlphaEvolve, appendix B (95 cells, symmetric)",
        ),
        Record(
            holder="TTT-Discover",
            score=0.380876,
            kind="ai",
            role="TTT-Discover",
            mode="float64, rescaled",
            source="arXiv 2601.16175, table 2 (600 cells, asymmetric)",
        ),
        Record(
            holder="a public note of 2026",
            score=0.380871,
            kind="claim",
            role="newest",
            mode="not stated",
            source="cites Together AI; unconfirmed",
        ),
    )

    def statement(self, *, brief: bool = False) -> str:
        return erdos_texts.BRIEF if brief else erdos_texts.FULL

    def opening(self) -> str:
        return erdos_texts.OPENING

    def prelude(self) -> str:
        return inspect.getsource(erdos_tools)

    def seeds(
        self, rng: np.random.Generator, count: int, *, brief: bool = False
    ) -> Sequence[Seed]:
        """Random starts without a program; small models are shown an example of one."""
        program = erdos_texts.EXAMPLE if brief else ""
        return [_random_start(rng, program) for _ in range(count)]

    def archivable(self, construction: Construction | None) -> bool:
        return construction is not None and len(construction) <= LONGEST_IN_TRAINING

    def reward(self, value: float) -> float:
        return -1.0 / value

    def picture(self, named: Mapping[str, Construction]) -> str:
        return pictures.step_functions(named)

    def baseline_reward(self, value: float) -> float:
        return 1.0 / (1e-8 - value)

    def judge(self, answer: object, *, exact: bool = False) -> Judgement:
        return self.measure(answer, mode=EXACT if exact else TRAINING)

    def measure(self, answer: object, *, mode: str) -> Judgement:
        longest, exact = LONGEST_IN_TRAINING if mode == TRAINING else LONGEST_CLAIM, mode == EXACT
        heights, claimed = _read(answer, longest)
        numerators, denominator = repair(heights)
        construction = np.array([p / denominator for p in numerators])
        certified = exact_c5(numerators, denominator) if exact else None
        score = c5(construction) if certified is None else float(certified)
        _gate(score if certified is None else certified)
        metrics = {"cells": float(len(heights))}
        if claimed is not None:
            metrics["claim_gap"] = score - claimed
        return Judgement(value=-score, construction=construction, metrics=metrics, exact=certified)


def _random_start(rng: np.random.Generator, program: str) -> Seed:
    """h = 0.5 + zero-mean uniform noise of +-0.4 on 40 to 99 cells, and its computed value."""
    noise = rng.uniform(-0.4, 0.4, int(rng.integers(40, 100)))
    numerators, denominator = repair(np.clip(0.5 + noise - noise.mean(), 0.0, 1.0).tolist())
    heights = np.array([p / denominator for p in numerators])
    return Seed(value=-c5(heights), program=program, construction=heights)


def _read(answer: object, longest: int) -> tuple[list[float], float | None]:
    """(heights, claimed C5 or None) of `[h, claimed, n]` or of `h` alone."""
    if not (isinstance(answer, list) and answer and isinstance(answer[0], list)):
        return numbers(answer, what="h", longest=longest), None
    if len(answer) != 3:
        raise InvalidAnswer(f"return h or (h, c5, n_points); this has {len(answer)} parts")
    heights = numbers(answer[0], what="h", longest=longest)
    claimed = number(answer[1], what="the claimed C5")
    declared = whole(answer[2], what="n_points")
    if declared != len(heights):
        raise InvalidAnswer(f"n_points is {declared} but h has {len(heights)} values")
    return heights, claimed


def repair(heights: Sequence[float]) -> tuple[list[int], int]:
    """The function that is scored, as integers p_i and q: h_i = p_i / q, sum p_i = n q / 2.

    Raises InvalidAnswer for negative heights, a zero sum, or a height above 1 after rescaling.
    """
    lowest = min(heights)
    if lowest < 0.0:
        raise InvalidAnswer(f"h has a negative value: {lowest!r}")
    integers, n = to_integers(heights), len(heights)
    total = sum(integers)
    if total == 0:
        raise InvalidAnswer("h is zero everywhere")
    peak = Fraction(max(integers) * n, 2 * total)
    if peak > 1 + REPAIRABLE:
        raise InvalidAnswer(f"rescaled to sum n/2, the maximum of h is {float(peak):.12g} > 1")
    return _cap(integers)


def _cap(integers: list[int]) -> tuple[list[int], int]:
    """Rescales to sum n/2; cells above 1 become 1 and the others take the rest."""
    n, capped = len(integers), 0
    order = sorted(range(n), key=integers.__getitem__, reverse=True)
    rest = sum(integers)
    while integers[order[capped]] * (n - 2 * capped) > 2 * rest:
        rest -= integers[order[capped]]
        capped += 1
    numerators = [height * (n - 2 * capped) for height in integers]
    for i in order[:capped]:
        numerators[i] = 2 * rest
    return numerators, 2 * rest


def exact_c5(numerators: Sequence[int], denominator: int) -> Fraction:
    """C5 of h_i = p_i / q: (2/n) max_k sum_i p_i (q - p_{i+k}) / q^2, one big-integer product."""
    complement = [denominator - p for p in numerators]
    best = max(correlation(numerators, complement))
    return Fraction(2 * best, len(numerators) * denominator * denominator)


def _gate(score: float | Fraction) -> None:
    if score < PROVEN_LOWER_BOUND:
        raise ProvenBoundBroken(
            f"C5 = {float(score):.9f} is below the proven bound {PROVEN_LOWER_BOUND}"
        )
