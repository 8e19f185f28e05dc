"""Circle packing: n discs without overlap in the unit square, the sum of their radii maximal.

What is scored satisfies every rule exactly, in rational arithmetic on the doubles returned:
(dx)^2 + (dy)^2 >= (r_i + r_j)^2 for every pair and r <= x, y <= 1 - r. One repair comes first: if
the worst violation, the largest overlap r_i + r_j - d or the furthest that a disc leaves the
square, is at most 1e-9, every radius is shrunk by all of it. A tolerance of t would be worth about
n t, so the score at the tolerance 1e-12 that others use is reported beside ours.

Gate: discs of given total area have the largest sum of radii when equal, so sum <= sqrt(n / pi).
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from eurekaflow.verifiers import circle_packing_texts as texts
from eurekaflow.verifiers import pictures
from eurekaflow.verifiers import radii as radii_tools
from eurekaflow.verifiers.answers import number, numbers, rows
from eurekaflow.verifiers.kronecker import to_integers
from eurekaflow.verifiers.problem import (
    Construction,
    InvalidAnswer,
    Judgement,
    Problem,
    ProvenBoundBroken,
    Seed,
)
from eurekaflow.verifiers.sandbox import Job

REPAIRABLE = 1e-9  # worst violation that shrinking may remove
COMMON_TOLERANCE = 1e-12  # of the evaluators in use

Centers = list[list[float]]  # n x 2


@dataclass(frozen=True, kw_only=True)
class Packing:
    """A repaired packing: every rule holds exactly."""

    centers: Centers
    radii: list[float]
    shrunk_by: float  # 0 when nothing was violated
    claimed: float | None = None  # the candidate's own sum

    @property
    def total(self) -> Fraction:
        return sum(map(Fraction, self.radii), Fraction(0))


class CirclePacking(Problem):
    """Maximise the sum of radii of `count` disjoint discs in the unit square."""

    count: ClassVar[int]
    version = "1"
    direction = "max"
    metric = "sum of radii"
    entry_point = "run_packing"

    def prepare(self) -> None:
        """Import the linear program's solver before an answer's time starts."""
        importlib.import_module("scipy.optimize")

    def statement(self, *, brief: bool = False) -> str:
        text = texts.BRIEF if brief else texts.FULL
        return text.format(n=self.count)

    def opening(self) -> str:
        return texts.OPENING.format(n=self.count)

    def prelude(self) -> str:
        return inspect.getsource(radii_tools)

    def job(self, program: str, *, parent: Construction | None, seed: int, budget_s: float) -> Job:
        """Also binds `parent_centers` (n x 2) when the parent has a construction."""
        arrays = {} if parent is None else {"parent_centers": np.array(parent[:, :2])}
        return Job(
            program=program,
            entry_point=self.entry_point,
            prelude=self.prelude(),
            arrays=arrays,
            arguments={"seed": seed, "budget_s": budget_s},
            seed=seed,
        )

    def seeds(
        self, rng: np.random.Generator, count: int, *, brief: bool = False
    ) -> Sequence[Seed]:
        """An empty program of value 0; for small models the concentric rings, measured."""
        return [ring_seed(self) if brief else Seed(value=0.0) for _ in range(count)]

    def picture(self, named: Mapping[str, Construction]) -> str:
        return pictures.discs(named)

    def judge(self, answer: object, *, exact: bool = False) -> Judgement:
        """Every answer is judged in exact arithmetic; `exact` changes nothing."""
        centers, radii, claimed = self._read(answer)
        packing = repair(centers, radii)
        _gate(packing)
        value = float(packing.total)
        metrics = {"shrunk_by": packing.shrunk_by}
        if worst_violation(centers, radii) <= COMMON_TOLERANCE:
            metrics["score_at_1e-12"] = math.fsum(radii)
        if claimed is not None:
            metrics["claim_gap"] = claimed - value
        return Judgement(
            value=value, construction=_triples(packing), metrics=metrics, exact=packing.total
        )

    def _read(self, answer: object) -> tuple[Centers, list[float], float | None]:
        """(centers, radii, claimed sum) of the answer; bare centers get their best radii.

        Rows of [x, y, r], as constructions are stored, are centers with their radii.
        """
        if not isinstance(answer, list):
            raise InvalidAnswer("return (centers, radii, sum), (centers, radii) or centers")
        if len(answer) not in (2, 3):
            if answer and isinstance(answer[0], list) and len(answer[0]) == 3:
                table = rows(answer, what="circles", count=self.count, width=3)
                return [row[:2] for row in table], [row[2] for row in table], None
            centers = rows(answer, what="centers", count=self.count, width=2)
            return centers, _best(centers), None
        centers = rows(answer[0], what="centers", count=self.count, width=2)
        radii = numbers(answer[1], what="radii", longest=self.count)
        if len(radii) != self.count:
            raise InvalidAnswer(f"radii has length {len(radii)}, needed are {self.count}")
        claimed = number(answer[2], what="the claimed sum") if len(answer) == 3 else None
        return centers, radii, claimed


class CirclePacking26(CirclePacking):
    """26 discs."""

    count = 26
    name = "circle-packing-26"
    aliases = ("cp26",)
    title = "26 circles in the unit square"
    target = 2.636
    records = texts.RECORDS_26


class CirclePacking32(CirclePacking):
    """32 discs."""

    count = 32
    name = "circle-packing-32"
    aliases = ("cp32",)
    title = "32 circles in the unit square"
    target = 2.940
    records = texts.RECORDS_32


def repair(centers: Centers, radii: Sequence[float]) -> Packing:
    """The packing that is scored; raises InvalidAnswer when the repair does not suffice."""
    if min(radii) <= 0.0:
        raise InvalidAnswer(f"radius {min(radii)!r} is not positive")
    if holds_exactly(centers, radii):
        return Packing(centers=centers, radii=list(radii), shrunk_by=0.0)
    worst = worst_violation(centers, radii)
    if worst > REPAIRABLE:
        raise InvalidAnswer(f"{_worst_pair(centers, radii)} (by {worst:.3g})")
    for rounding in (0.0, 1e-16, 1e-15, 1e-14):  # the float violation is itself rounded
        shrunk_by = max(worst, 0.0) + rounding
        shrunk = [r - shrunk_by for r in radii]
        if min(shrunk) > 0.0 and holds_exactly(centers, shrunk):
            return Packing(centers=centers, radii=shrunk, shrunk_by=shrunk_by)
    raise InvalidAnswer(f"shrinking every radius by {worst:.3g} does not make the packing valid")


def holds_exactly(centers: Centers, radii: Sequence[float]) -> bool:
    """Whether every rule holds with zero tolerance, in integers on the doubles."""
    n = len(radii)
    flat = [value for center in centers for value in center]
    *table, one = to_integers([*flat, *radii, 1.0])
    points, sizes = [tuple(table[2 * i : 2 * i + 2]) for i in range(n)], table[2 * n :]
    inside = all(
        r <= x <= one - r and r <= y <= one - r for (x, y), r in zip(points, sizes, strict=True)
    )
    return inside and all(
        (points[i][0] - points[j][0]) ** 2 + (points[i][1] - points[j][1]) ** 2
        >= (sizes[i] + sizes[j]) ** 2
        for i in range(n)
        for j in range(i)
    )


def worst_violation(centers: Centers, radii: Sequence[float]) -> float:
    """The largest overlap or protrusion, in floats; below 0 when nothing touches."""
    points, sizes = np.array(centers), np.array(radii)
    walls = (sizes[:, None] - np.minimum(points, 1.0 - points)).max()
    with np.errstate(over="ignore"):
        gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
        pairs = (sizes[:, None] + sizes[None] - gaps)[np.triu_indices(len(sizes), 1)]
    return float(max(walls, pairs.max() if len(sizes) > 1 else -math.inf))


def _worst_pair(centers: Centers, radii: Sequence[float]) -> str:
    try:
        radii_tools.validate_packing(centers, radii)
    except ValueError as error:
        return str(error)
    return "the packing breaks a rule"


def _gate(packing: Packing) -> None:
    bound = math.sqrt(len(packing.radii) / math.pi)
    if packing.total > bound:
        raise ProvenBoundBroken(
            f"sum of radii {float(packing.total):.9f} exceeds the proven bound {bound:.9f}"
        )


def _best(centers: Centers) -> list[float]:
    try:
        return [float(r) for r in radii_tools.best_radii(centers)]
    except ValueError as error:
        raise InvalidAnswer(str(error)) from None


def _triples(packing: Packing) -> Construction:
    return np.column_stack([np.array(packing.centers), np.array(packing.radii)])


def ring_seed(problem: CirclePacking) -> Seed:
    """The start of small models: concentric rings, their measured value, an example program."""
    judgement = problem.judge(radii_tools.rings(problem.count).tolist())
    return Seed(value=judgement.value, program=texts.EXAMPLE, construction=judgement.construction)
