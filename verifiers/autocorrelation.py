"""The autocorrelation inequalities: step functions that certify bounds on C1 (ac1) and C2 (ac2).

f >= 0 has n equal cells of heights a; c = a * a holds the knots of f*f, which is linear between
them, so for step functions both ratios are exact and independent of scale and support:

- ac1: 2n max(c) / sum(a)^2 >= C1, to be small (Matolcsi and Vinuesa 2010). Gate: C1 >= 1.28
  (Cloninger and Steinerberger 2017).
- ac2: (2 sum c_i^2 + sum c_i c_{i+1}) / (3 sum(c) max(c)) <= C2, to be large. Gate: it is < 1,
  because equality in Hoelder's inequality would need a flat f*f.

What is scored is the *repaired* function: scaled by a power of two so that the maximum lies in
[1/2, 1), negatives above -1e-12 of the maximum set to 0, every height rounded down to a multiple
of 2^-100. It is a legal function itself, its heights are doubles, and exact arithmetic on it is
bounded, whatever exponents an answer has. The fast path is an FFT, never alone: where its rounding
could reach 1e-11 of the result (sparse f), and for whatever beats the record, integers replace it.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import ClassVar

import numpy as np

from eurekaflow.verifiers import autocorrelation_texts as texts
from eurekaflow.verifiers import autocorrelation_tools as tools
from eurekaflow.verifiers import pictures
from eurekaflow.verifiers.answers import numbers
from eurekaflow.verifiers.kronecker import convolution
from eurekaflow.verifiers.problem import (
    Construction,
    InvalidAnswer,
    Judgement,
    Problem,
    ProvenBoundBroken,
    Seed,
)

LONGEST = 100_000
SHORTEST_PARENT = 1_000
GRID_BITS = 100  # heights are multiples of 2^-GRID_BITS once the maximum is in [1/2, 1)
NEGLIGIBLE = 1e-12  # negatives above minus this times the maximum become 0
PROVEN_LOWER_BOUND_C1 = 1.28
PROVEN_UPPER_BOUND_C2 = 1.0
_FFT_PRECISION = 1e-11  # relative; where it is not certain, integers are used
_FFT_ROUNDING = 1e-15  # per factor of two of the length, relative to sum(a^2)


class Autocorrelation(Problem):
    """What the two inequalities share."""

    version = "1"
    metric = "bound"
    construction_name = "height_sequence_1"
    redraws = True
    start_value: ClassVar[float]  # of constant heights

    def seeds(
        self, rng: np.random.Generator, count: int, *, brief: bool = False
    ) -> Sequence[Seed]:
        """Constant heights on 1000 to 7999 cells; small models are shown an example change."""
        return [
            Seed(
                value=self.start_value,
                program=self.starter(brief=brief),
                construction=np.full(int(rng.integers(1000, 8000)), rng.uniform(0.0, 1.0) or 1.0),
            )
            for _ in range(count)
        ]

    def starter(self, *, brief: bool) -> str:
        """The program that seeds show."""
        raise NotImplementedError

    def archivable(self, construction: Construction | None) -> bool:
        return construction is not None and SHORTEST_PARENT <= len(construction) <= LONGEST

    def picture(self, named: Mapping[str, Construction]) -> str:
        return pictures.step_functions({name: coarse(a) for name, a in named.items()})

    def judge(self, answer: object, *, exact: bool = False) -> Judgement:
        a = repair(numbers(answer, what="f", longest=LONGEST))
        certified = self.certify(a) if exact or not precise(a) else None
        score = self.fast(a) if certified is None else float(certified)
        self.gate(score if certified is None else certified)
        return Judgement(
            value=self.value(score),
            construction=a,
            metrics={"cells": float(len(a))},
            exact=certified,
        )

    def fast(self, a: Construction) -> float:
        """The bound in float64."""
        raise NotImplementedError

    def certify(self, a: Construction) -> Fraction:
        """The bound of a repaired function in rational arithmetic."""
        raise NotImplementedError

    def gate(self, score: float | Fraction) -> None:
        """Raise ProvenBoundBroken for a bound that no function can certify."""
        raise NotImplementedError


class AC1(Autocorrelation):
    """Minimise the certified upper bound of C1."""

    name = "ac1"
    title = "First autocorrelation inequality"
    direction = "min"
    entry_point = "propose_candidate"
    target = 1.5030
    records = texts.AC1_RECORDS
    start_value = -2.0

    def statement(self, *, brief: bool = False) -> str:
        return texts.AC1_BRIEF if brief else texts.AC1_FULL

    def opening(self) -> str:
        return texts.AC1_OPENING

    def prelude(self) -> str:
        return inspect.getsource(tools) + texts.AC1_NAMES

    def starter(self, *, brief: bool) -> str:
        return texts.AC1_EXAMPLE if brief else texts.AC1_STARTER

    def reward(self, value: float) -> float:
        return -1.0 / value

    def fast(self, a: Construction) -> float:
        return tools.c1(a, tools.autoconvolution(a))

    def certify(self, a: Construction) -> Fraction:
        heights = to_integers(a)
        return Fraction(2 * len(a) * max(convolution(heights, heights)), sum(heights) ** 2)

    def gate(self, score: float | Fraction) -> None:
        if score < PROVEN_LOWER_BOUND_C1:
            raise ProvenBoundBroken(
                f"the bound {float(score):.9f} is below the proven C1 >= {PROVEN_LOWER_BOUND_C1}"
            )


class AC2(Autocorrelation):
    """Maximise the certified lower bound of C2."""

    name = "ac2"
    title = "Second autocorrelation inequality"
    direction = "max"
    entry_point = "construct_function"
    target = 0.97
    records = texts.AC2_RECORDS
    start_value = 2.0 / 3.0

    def statement(self, *, brief: bool = False) -> str:
        return texts.AC2_BRIEF if brief else texts.AC2_FULL

    def opening(self) -> str:
        return texts.AC2_OPENING

    def prelude(self) -> str:
        return inspect.getsource(tools) + texts.AC2_NAMES

    def starter(self, *, brief: bool) -> str:
        return texts.AC2_EXAMPLE if brief else texts.AC2_STARTER

    def fast(self, a: Construction) -> float:
        return tools.c2(a, tools.autoconvolution(a))

    def certify(self, a: Construction) -> Fraction:
        heights = to_integers(a)
        c = convolution(heights, heights)
        squares = 2 * sum(x * x for x in c) + sum(x * y for x, y in itertools.pairwise(c))
        return Fraction(squares, 3 * sum(heights) ** 2 * max(c))

    def gate(self, score: float | Fraction) -> None:
        if score >= PROVEN_UPPER_BOUND_C2:
            raise ProvenBoundBroken(
                f"the bound {float(score):.9f} reaches 1, which Hoelder's inequality excludes"
            )


def repair(values: Sequence[float]) -> Construction:
    """The function that is scored, maximum in [1/2, 1); raises InvalidAnswer.

    Scaling by powers of two and rounding down to the grid are exact in doubles.
    """
    a = np.array(values, dtype=np.float64)
    peak, lowest = float(a.max()), float(a.min())
    if lowest < -NEGLIGIBLE * max(peak, 0.0):
        raise InvalidAnswer(f"f has a negative value: {lowest!r}")
    if peak == 0.0:
        raise InvalidAnswer("f is zero everywhere")
    shift = GRID_BITS - int(np.frexp(peak)[1])
    return np.ldexp(np.floor(np.ldexp(np.where(a > 0, a, 0.0), shift)), -GRID_BITS)


def coarse(a: Construction, most: int = 1_000) -> Construction:
    """The heights on at most `most` cells, each the largest of those it covers: for looking at."""
    if len(a) <= most:
        return a
    starts = np.linspace(0, len(a), most, endpoint=False).astype(int)
    largest: Construction = np.maximum.reduceat(a, starts)
    return largest


def to_integers(a: Construction) -> list[int]:
    """The heights of a repaired function times one common factor."""
    integers = [int(height) for height in np.ldexp(a, GRID_BITS).tolist()]
    common = 0
    for height in integers:
        common |= height
    zeros = (common & -common).bit_length() - 1
    return [height >> zeros for height in integers]


def precise(a: Construction) -> bool:
    """Whether the fast path is certainly right to 1e-11.

    The FFT's rounding of every c_k is below _FFT_ROUNDING log2(n) sum(a^2), and both max(c) and
    the mean of c weighted with itself are at least sum(a)^2 / (2n - 1).
    """
    rounding = _FFT_ROUNDING * np.log2(4 * len(a)) * np.dot(a, a)
    return bool(rounding * 2 * len(a) <= _FFT_PRECISION * a.sum() ** 2)
