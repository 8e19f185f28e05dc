"""AtCoder AHC058 "Apple Incremental Game": the official inputs and the judge's score, exactly.

Ten kinds of machine on four levels; each of 500 turns may buy one. A machine of level 0 makes
apples, one of level i makes machines of level i - 1. The case score is round(10^5 log2 S) of the
S apples at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import ClassVar

from eurekaflow.verifiers import ahc058_texts
from eurekaflow.verifiers.contest import Contest
from eurekaflow.verifiers.contest_random import ContestRandom, rounded
from eurekaflow.verifiers.contest_text import WHITESPACE, InvalidOutput, tokens, whole
from eurekaflow.verifiers.problem import Record

__all__ = ["Ahc058", "InvalidOutput", "generate_input", "score"]

IDS, LEVELS, TURNS, APPLES = 10, 4, 500, 1
LARGEST = 2**63 - 1  # the judge counts in 64 bits


@lru_cache(maxsize=512)
def generate_input(seed: int) -> str:
    """The official input file of a u64 seed. Raises ValueError."""
    rng = ContestRandom(seed)
    power = sorted([1] + [rounded(math.pow(10.0, rng.between(0.0, 2.0))) for _ in range(IDS - 1)])
    costs = [
        [1 if level == item == 0 else _cost(rng, power[item], level) for item in range(IDS)]
        for level in range(LEVELS)
    ]
    rows = [[IDS, LEVELS, TURNS, APPLES], power, *costs]
    return "".join(" ".join(map(str, row)) + "\n" for row in rows)


def _cost(rng: ContestRandom, power: int, level: int) -> int:
    return rounded(power * 500.0**level * math.pow(10.0, rng.between(0.0, 2.0)))


@dataclass
class _Farm:
    """The state of one game."""

    apples: int
    power: Sequence[int]  # A
    costs: Sequence[Sequence[int]]  # C[level][id]
    machines: list[list[int]]  # B[level][id]
    strength: list[list[int]]  # P[level][id]

    def buy(self, level: int, item: int, *, turn: int) -> None:
        cost = self.costs[level][item] * (self.strength[level][item] + 1)
        if cost > self.apples:
            raise InvalidOutput(
                f"turn {turn}: machine {level} {item} costs {cost}, there are {self.apples} apples"
            )
        self.apples -= cost
        self.strength[level][item] += 1

    def work(self) -> None:
        counts, strength = self.machines, self.strength
        self.apples += sum(
            a * b * p for a, b, p in zip(self.power, counts[0], strength[0], strict=True)
        )
        for level in range(1, len(counts)):
            for item, raised in enumerate(strength[level]):
                if raised:
                    counts[level - 1][item] += counts[level][item] * raised


def score(input_text: str, output_text: str) -> int:
    """The case score of an output. Raises InvalidOutput with the judge's reason."""
    (ids, levels, turns, apples), power, *costs = (
        [int(number) for number in line.split()] for line in input_text.splitlines()
    )
    machines = [[1] * ids for _ in range(levels)]
    strength = [[0] * ids for _ in range(levels)]
    farm = _Farm(apples, power, costs, machines, strength)
    lines = _lines(output_text)
    for turn in range(turns):
        action = _action(next(lines, None), ids=ids, levels=levels, turn=turn)
        if action is not None:
            farm.buy(*action, turn=turn)
        farm.work()
        if farm.apples > LARGEST:
            raise InvalidOutput(f"turn {turn}: {farm.apples} apples do not fit into 64 bits")
    if farm.apples <= 0:
        raise InvalidOutput("no apples are left at the end")
    return rounded(1e5 * math.log2(float(farm.apples)))


def _lines(output_text: str) -> Iterator[str]:
    """The lines that say something: blank ones and comments are skipped."""
    for line in output_text.split("\n"):
        said = line.strip(WHITESPACE)
        if said and not said.startswith("#"):
            yield said


def _action(line: str | None, *, ids: int, levels: int, turn: int) -> tuple[int, int] | None:
    """(level, id) to raise, or None for nothing. Raises InvalidOutput."""
    if line is None:
        raise InvalidOutput(f"the output ends before turn {turn}")
    words = list(tokens(line))
    if words[0] == "-1":
        if len(words) > 1:
            raise InvalidOutput(f"turn {turn}: something follows -1")
        return None
    level = whole(words[0], 0, levels - 1, what=f"the level of turn {turn}")
    item = whole(words[1] if len(words) > 1 else None, 0, ids - 1, what=f"the id of turn {turn}")
    if len(words) > 2:
        raise InvalidOutput(f"turn {turn}: more than two numbers")
    return level, item


class Ahc058(Contest):
    """Maximise the logarithm of the apples after 500 turns."""

    name = "ahc058"
    version = "1"
    title = 'AtCoder AHC058 "Apple Incremental Game"'
    case_target = 6_500_000.0
    reward_unit = 3_000_000.0
    texts: ClassVar[ModuleType] = ahc058_texts
    records = tuple(
        Record(
            holder=holder,
            score=points,
            kind=kind,
            role=role,
            source=source,
            mode="the official 150 cases",
        )
        for holder, points, kind, role, source in ahc058_texts.RECORDS
    )

    def generate_input(self, seed: int) -> str:
        return generate_input(seed)

    def case_score(self, input_text: str, output_text: str) -> int:
        return score(input_text, output_text)
