"""AtCoder AHC039 "Purse Seine Fishing": the official inputs and the judge's score, exactly.

5 000 mackerels and 5 000 sardines are points of [0, 10^5]^2. A program prints one simple
polygon with axis-parallel edges, 4 to 1000 integer vertices and at most 4 x 10^5 of length; its
case score is max(0, mackerels - sardines inside + 1), the boundary being inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import ModuleType
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt

from eurekaflow.verifiers import ahc039_texts
from eurekaflow.verifiers.ahc039_picture import draw
from eurekaflow.verifiers.contest import OFFICIAL, Contest, data
from eurekaflow.verifiers.contest_random import ContestRandom, WeightedIndex, rounded
from eurekaflow.verifiers.contest_text import InvalidOutput, tokens, whole
from eurekaflow.verifiers.problem import EXACT, TRAINING, Construction, Judgement, Record

__all__ = ["Ahc039", "InvalidOutput", "generate_input", "picture", "score"]

SIDE = 100_000
FISH = 5_000  # of each kind
FEWEST, MOST = 4, 1_000  # vertices
LONGEST = 400_000

Points = npt.NDArray[np.int64]  # n x 2


@lru_cache(maxsize=512)
def generate_input(seed: int) -> str:
    """The official input file of a u64 seed. Raises ValueError."""
    rng = ContestRandom(seed)
    seen: dict[tuple[int, int], None] = {}
    for total in (FISH, 2 * FISH):
        _add_school(rng, seen, total)
    return f"{FISH}\n" + "".join(f"{x} {y}\n" for x, y in seen)


def _add_school(rng: ContestRandom, seen: dict[tuple[int, int], None], total: int) -> None:
    """Clustered points until there are `total` distinct ones."""
    count = rng.whole(10, 25)
    cluster = WeightedIndex([rng.unit() for _ in range(count)])
    centres = [(rng.whole(20_000, 80_000), rng.whole(20_000, 80_000)) for _ in range(count)]
    sigmas = [rng.whole(1_000, 5_000) for _ in range(count)]
    while len(seen) < total:
        at = cluster.draw(rng)
        x = rounded(rng.normal() * sigmas[at] + centres[at][0])
        y = rounded(rng.normal() * sigmas[at] + centres[at][1])
        if 0 <= x <= SIDE and 0 <= y <= SIDE:
            seen.setdefault((x, y))


def score(input_text: str, output_text: str) -> int:
    """The case score of an output. Raises InvalidOutput with the judge's reason."""
    polygon = last_polygon(output_text)
    check(polygon)
    fish = _fish(input_text)
    held = inside(polygon, fish)
    caught = int(held[: len(fish) // 2].sum()) - int(held[len(fish) // 2 :].sum())
    return max(0, caught + 1)


def picture(input_text: str, output_text: str) -> str:
    """The sea as an SVG: fish, and the polygon where the output holds one that counts."""
    try:
        polygons = [last_polygon(output_text)]
        caught = f"score {score(input_text, output_text)}"
    except InvalidOutput as reason:
        polygons, caught = [], str(reason)
    return draw(_fish(input_text), *polygons, caption=caught)


@lru_cache(maxsize=8)
def _fish(input_text: str) -> Points:
    numbers = np.array(input_text.split(), dtype=np.int64)
    return numbers[1:].reshape(2 * int(numbers[0]), 2)


def last_polygon(output_text: str) -> Points:
    """The last of the polygons printed, each of which must be in range. Raises InvalidOutput."""
    stream, last = tokens(output_text), None
    for first in stream:
        count = whole(first, FEWEST, MOST, what="the number of vertices")
        numbers = [
            whole(next(stream, None), 0, SIDE, what=f"coordinate {'xy'[i % 2]} of vertex {i // 2}")
            for i in range(2 * count)
        ]
        last = numbers
    if last is None:
        raise InvalidOutput("the output holds no polygon")
    return np.array(last, dtype=np.int64).reshape(-1, 2)


def check(polygon: Points) -> None:
    """Refuse what is no simple rectilinear polygon of bounded length. Raises InvalidOutput."""
    steps = np.roll(polygon, -1, axis=0) - polygon
    moves = steps != 0
    _first(np.asarray(~moves.any(axis=1)), lambda i: f"edge {i} has length zero")
    _first(np.asarray(moves.all(axis=1)), lambda i: f"edge {i} is not parallel to an axis")
    following = np.roll(steps, -1, axis=0)
    _first((steps * following).sum(axis=1) < 0, lambda i: f"edge {i + 1} turns back on edge {i}")
    _no_touching(polygon)
    length = int(abs(steps).sum())
    if length > LONGEST:
        raise InvalidOutput(f"the polygon's length is {length}, allowed are {LONGEST}")


def _first(wrong: npt.NDArray[np.bool_], reason: Callable[[int], str]) -> None:
    if wrong.any():
        raise InvalidOutput(reason(int(wrong.argmax())))


def _no_touching(polygon: Points) -> None:
    """Edges that are not neighbours must have no point in common."""
    ends = np.roll(polygon, -1, axis=0)
    low, high = np.minimum(polygon, ends), np.maximum(polygon, ends)
    touch = np.asarray((low[:, None] <= high[None]).all(axis=2))
    touch &= touch.T
    near = np.arange(len(polygon))
    for shift in (0, 1):
        other = (near + shift) % len(polygon)
        touch[near, other] = touch[other, near] = False
    if touch.any():
        first, second = (int(i) for i in np.argwhere(touch)[0])
        raise InvalidOutput(f"edges {first} and {second} touch or cross")


def inside(polygon: Points, points: Points) -> npt.NDArray[np.bool_]:
    """Which points lie in the closed polygon, by parity of the edges above and by touch."""
    order = np.argsort(points[:, 0], kind="stable")
    x, y = points[order, 0], points[order, 1]
    odd, touched = np.zeros(len(x), dtype=bool), np.zeros(len(x), dtype=bool)
    ends = np.roll(polygon, -1, axis=0)
    low, high = np.minimum(polygon, ends), np.maximum(polygon, ends)
    start = np.searchsorted(x, low[:, 0], side="left")
    stop = np.searchsorted(x, high[:, 0], side="right")
    open_stop = np.searchsorted(x, high[:, 0], side="left")
    for edge, (bottom, top) in enumerate(zip(low[:, 1], high[:, 1], strict=True)):
        closed = slice(start[edge], stop[edge])
        touched[closed] |= (bottom <= y[closed]) & (y[closed] <= top)
        half_open = slice(start[edge], open_stop[edge])  # empty where the edge is vertical
        odd[half_open] ^= y[half_open] < top
    held = np.empty(len(x), dtype=bool)
    held[order] = odd | touched
    return held


class Ahc039(Contest):
    """Maximise mackerels minus sardines inside one rectilinear polygon."""

    name = "ahc039"
    version = "1"
    title = 'AtCoder AHC039 "Purse Seine Fishing"'
    case_target = 5_000.0
    reward_unit = 1_500.0
    texts: ClassVar[ModuleType] = ahc039_texts
    modes = (TRAINING, EXACT, OFFICIAL)
    official_seeds: ClassVar[tuple[int, ...]] = tuple(data("ahc039_official_seeds.json")["seeds"])
    records = tuple(
        Record(
            holder=holder,
            score=points,
            kind=kind,
            role=role,
            source=source,
            mode="the official 150 cases",
        )
        for holder, points, kind, role, source in ahc039_texts.RECORDS
    )

    def generate_input(self, seed: int) -> str:
        return generate_input(seed)

    def case_score(self, input_text: str, output_text: str) -> int:
        return score(input_text, output_text)

    def judge(self, answer: object, *, exact: bool = False) -> Judgement:
        """The score of one case, and the polygon (n x 2) that earned it."""
        judgement = super().judge(answer, exact=exact)
        polygon = last_polygon(cast(dict[str, str], answer)["output"])
        return replace(judgement, construction=polygon.astype(np.float64))

    def picture(self, named: Mapping[str, Construction]) -> str:
        """Polygons over the first case."""
        fish = _fish(self.generate_input(self.cases()[0]))
        return draw(fish, *named.values(), caption=", ".join(named))
