"""Ten points in the unit square, as far from each other as possible: a problem in one file.

    eureka problem check my_problem.py     what is wrong with it, before anything is spent
    eureka verify my_problem.py answer.py  score a program by hand
    eureka run ./my_problem.py             discover

A problem says what is wanted (`statement`), how an answer is judged (`judge`) and where the search
begins (`seeds`). Candidates are programs that define `entry_point`; they run in a sandbox and
return JSON values. `judge` runs elsewhere, trusts nothing and recomputes the score.
"""

from collections.abc import Sequence

import numpy as np

from eurekaflow.verifiers.answers import rows
from eurekaflow.verifiers.problem import InvalidAnswer, Judgement, Problem, Record, Seed

COUNT = 10

STATEMENT = f"""\
Place {COUNT} points in the unit square so that the smallest distance between two of them is as
large as possible. Write `place(seed, budget_s)` that returns a list of {COUNT} pairs [x, y] with
0 <= x, y <= 1. The score is the smallest distance, recomputed from the points; higher is better.
"""

# For small models: few words, the start of the answer, and an example of one.
BRIEF = f"Place {COUNT} points [x, y] in the unit square, far from each other. Higher is better.\n"
START = """\
def place():
    return np.random.uniform(0, 1, (10, 2)).tolist()
"""


class FarPoints(Problem):
    """Maximise the smallest distance between ten points."""

    name = "far-points"  # what the archive calls it
    version = "1"  # change it whenever the statement or the judge changes
    title = "Ten points far from each other"
    direction = "max"  # or "min"
    metric = "smallest distance"
    entry_point = "place"  # the function that candidates define
    construction_name = "parent_points"  # the parent's construction, bound for candidates
    target = 0.4213  # a little better than the record, shown in the prompt
    records = (
        Record(
            holder="Schlüter 1979",
            score=0.421279,
            kind="human",
            role="human",
            source="Kreispackung in Quadraten, Elemente der Mathematik 34",
        ),
    )

    def statement(self, *, brief: bool = False) -> str:
        """What the model is told."""
        return BRIEF if brief else STATEMENT

    def opening(self) -> str:
        """How the answer is opened for a small model; it writes the rest."""
        return "```python\ndef place():\n"

    def seeds(
        self, rng: np.random.Generator, count: int, *, brief: bool = False
    ) -> Sequence[Seed]:
        """Starting points with finite values, drawn from `rng` alone."""
        placed = [rng.uniform(0, 1, (COUNT, 2)) for _ in range(count)]
        return [Seed(value=smallest(p), program=START, construction=p) for p in placed]

    def judge(self, answer: object, *, exact: bool = False) -> Judgement:
        """The value of an answer, higher is better; InvalidAnswer says why there is none.

        `rows` refuses NaN, infinities, booleans, strings and wrong shapes. What it cannot know is
        checked here: that the points lie in the square.
        """
        points = np.array(rows(answer, what="points", count=COUNT, width=2))
        if points.min() < 0 or points.max() > 1:
            raise InvalidAnswer(f"a point lies outside the square: {points.min()}, {points.max()}")
        return Judgement(value=smallest(points), construction=points)


def smallest(points: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """The smallest distance between two points."""
    gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    return float(gaps[np.triu_indices(len(points), 1)].min())
