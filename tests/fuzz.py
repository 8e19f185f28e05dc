"""Fuzzing the verifiers: structured nonsense in, a refusal or a true score out.

    .venv/bin/python -m tests.fuzz [COUNT] [SEED]

Answers are mutated valid ones, odd JSON, odd numbers and raw bytes. An oracle that shares no code
with the verifiers says of each whether it may be accepted and what it is worth: it works on
fractions, by the definitions, so constructions are kept small. A verifier may refuse what the
oracle would accept (limits on length); it may never accept what the oracle refuses, be off by more
than 1e-9, raise anything but InvalidAnswer, or take long.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from eurekaflow.verifiers.answers import parse
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import InvalidAnswer, Judgement

PROBLEMS = ("erdos", "ac1", "ac2", "circle-packing-26", "circle-packing-32")
ODD_NUMBERS = (
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-400", "5e-324", "-0.0", "0", "-1"),
    *("1e308", "-1e-13", "1e-13", "0.1e1", "9" * 30, "9" * 500, "00", "+1", "1.", ".5", "0x10"),
    *("1_000", "1e", "--1", "true", "null", '"0.5"', "[]", "{}", "[0.5]", '{"a": 1}', "٣"),
    *("1.0000000000000002", "0.9999999999999999"),
)
SLOWEST_S = 5.0  # CPU


@dataclass
class Tally:
    """What happened to the answers of one verifier."""

    accepted: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)


def fuzz(name: str, count: int, seed: int) -> Tally:
    """Put `count` answers to one verifier."""
    rng, problem, tally = random.Random(f"{name} {seed}"), load(name), Tally()
    for _ in range(count):
        data = make(rng, name)
        started = time.process_time()
        try:
            judgement = problem.judge(parse(data))
        except InvalidAnswer:
            tally.refused += 1
        except Exception as error:
            tally.faults.append(f"{type(error).__name__}: {error} on {data[:200]!r}")
        else:
            tally.accepted += 1
            tally.faults += disagreement(name, data, judgement)
        if time.process_time() - started > SLOWEST_S:
            tally.faults.append(f"slow on {data[:200]!r}")
    return tally


def disagreement(name: str, data: bytes, judgement: Judgement) -> list[str]:
    """Why an acceptance is wrong, if it is."""
    try:
        expected = ORACLES[name.partition("-")[0]](json.loads(data), name)
    except Wrong as reason:
        return [f"accepted although {reason}: {data[:200]!r}"]
    score = load(name).score(judgement.value)
    if not math.isfinite(score) or abs(score - expected) > 1e-9 * max(1.0, abs(expected)):
        return [f"scored {score!r}, the oracle says {expected!r}: {data[:200]!r}"]
    return []


class Wrong(Exception):
    """The oracle's refusal."""


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise Wrong(reason)


def plain(value: Any) -> Fraction:
    """A JSON number as the fraction that its double is."""
    require(type(value) in (int, float), "a number is not a number")
    require(math.isfinite(value) if type(value) is float else abs(value) < 2**1024, "not finite")
    return Fraction(float(value))


def heights_of(answer: Any) -> list[Fraction]:
    require(isinstance(answer, list) and answer != [], "not a list with content")
    return [plain(x) for x in answer]


def erdos(answer: Any, _: str) -> float:
    if isinstance(answer, list) and answer and isinstance(answer[0], list):
        require(len(answer) == 3, "not three parts")
        plain(answer[1])
        require(plain(answer[2]) == len(answer[0]), "a wrong number of points")
        answer = answer[0]
    h = heights_of(answer)
    n, total = len(h), sum(h, Fraction(0))
    require(min(h) >= 0 and total > 0, "negative or zero")
    h = [x * n / (2 * total) for x in h]
    require(max(h) <= 1 + Fraction(1, 10**9), "above 1")
    worst = max(
        sum((h[i] * (1 - h[i + k]) for i in range(max(0, -k), min(n, n - k))), Fraction(0))
        for k in range(1 - n, n)
    )
    return float(2 * worst / n)


def knots_of(answer: Any) -> tuple[list[Fraction], list[Fraction]]:
    a = heights_of(answer)
    top = max(a)
    require(top > 0 and min(a) >= -top / 10**12, "negative or zero")
    a = [max(x, Fraction(0)) for x in a]
    c = [Fraction(0)] * (2 * len(a) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(a):
            c[i + j] += x * y
    return a, c


def ac1(answer: Any, _: str) -> float:
    a, c = knots_of(answer)
    return float(2 * len(a) * max(c) / sum(a) ** 2)


def ac2(answer: Any, _: str) -> float:
    _a, c = knots_of(answer)
    y = [Fraction(0), *c, Fraction(0)]
    squares = sum(u * u + u * v + v * v for u, v in itertools.pairwise(y)) / 3
    return float(squares / (sum(c) * max(c)))


def packing(answer: Any, name: str) -> float:
    """Valid discs' sum; with overlaps up to 1e-9 the sum after shrinking by all of it."""
    count = int(name.rpartition("-")[2])
    require(isinstance(answer, list), "not a list")
    if len(answer) in (2, 3):
        centers, radii = answer[0], answer[1]
        require(isinstance(centers, list) and isinstance(radii, list), "no lists")
    else:
        require(all(isinstance(row, list) and len(row) == 3 for row in answer), "no rows of three")
        centers, radii = [row[:2] for row in answer], [row[2] for row in answer]
    require(len(centers) == len(radii) == count, "a wrong number of circles")
    require(all(isinstance(p, list) and len(p) == 2 for p in centers), "no pairs")
    points = [(plain(x), plain(y)) for x, y in centers]
    sizes = [plain(r) for r in radii]
    require(min(sizes) > 0, "a radius that is not positive")
    slack = Fraction(11, 10**10)  # what may be repaired, and rounding
    for i, ((x, y), r) in enumerate(zip(points, sizes, strict=True)):
        require(min(x, y, 1 - x, 1 - y) >= r - slack, "outside")
        for (u, v), s in zip(points[:i], sizes[:i], strict=True):
            reach = max(r + s - slack, Fraction(0))
            require((x - u) ** 2 + (y - v) ** 2 >= reach**2, "overlap")
    return shrunk_sum(points, sizes)


def shrunk_sum(points: list[tuple[Fraction, Fraction]], sizes: list[Fraction]) -> float:
    """The sum once every radius is smaller by the worst violation."""
    worst = Fraction(0)
    for i, ((x, y), r) in enumerate(zip(points, sizes, strict=True)):
        worst = max(worst, r - min(x, y, 1 - x, 1 - y))
        for (u, v), s in zip(points[:i], sizes[:i], strict=True):
            distance = Fraction(math.dist((float(x), float(y)), (float(u), float(v))))
            worst = max(worst, r + s - distance)
    return float(sum(sizes) - len(sizes) * worst)


ORACLES: dict[str, Callable[[Any, str], float]] = {
    "erdos": erdos,
    "ac1": ac1,
    "ac2": ac2,
    "circle": packing,
}


def make(rng: random.Random, name: str) -> bytes:
    """One answer: mostly a valid one with something done to it."""
    kind = rng.random()
    if kind < 0.05:
        return rng.randbytes(rng.randrange(40))
    if kind < 0.15:
        return nonsense(rng, 3).encode()
    text = json.dumps(valid(rng, name))
    for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 4))):
        text = mutated(rng, text)
    return text.encode("utf-8", errors="surrogatepass")


def valid(rng: random.Random, name: str) -> Any:
    """A legal answer, or nearly one: perturbations decide at the edges of the rules."""
    if name.startswith("circle"):
        return valid_packing(rng, int(name.rpartition("-")[2]))
    n = rng.randrange(1, 14)
    numbers = [rng.choice((rng.random(), rng.random() ** 9, 0.0, 1.0, 0.5)) for _ in range(n)]
    if name == "erdos":
        numbers = [0.5 + rng.choice((0.2, 0.49)) * (x - 0.5) for x in numbers]
        return [numbers, rng.random(), n] if rng.random() < 0.5 else numbers
    scale = rng.choice((1.0, 1.0, 1e-300, 1e300, 1e-12))
    return [x * scale for x in numbers]


def valid_packing(rng: random.Random, count: int) -> Any:
    excess = rng.choice((0.0, -1e-3, -1e-16, 1e-16, 1e-13, 4.5e-10, 5.5e-10, 1e-6))
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(count)]
    radii = [1 / 12 + excess] * count
    if rng.random() < 0.3:
        return [[*center, r] for center, r in zip(centers, radii, strict=True)]
    return [centers, radii, sum(radii)][: rng.choice((2, 3, 3))]


def mutated(rng: random.Random, text: str) -> str:
    """The text with one number replaced, a piece removed, doubled or moved, or a byte changed."""
    pieces = text.replace("[", "[ ").replace("]", " ]").split(" ")
    at = rng.randrange(len(pieces))
    kind = rng.randrange(6)
    if kind == 0:
        pieces[at] = rng.choice(ODD_NUMBERS) + ("," if pieces[at].endswith(",") else "")
    elif kind == 1:
        pieces[at] = f"{rng.uniform(-1, 2)!r}" + ("," if pieces[at].endswith(",") else "")
    elif kind == 2:
        del pieces[at]
    elif kind == 3:
        pieces.insert(at, pieces[rng.randrange(len(pieces))])
    elif kind == 4:
        pieces[at] = nonsense(rng, 2) + ","
    else:
        whole = " ".join(pieces)
        place = rng.randrange(max(1, len(whole)))
        return (
            whole[:place]
            + chr(rng.choice((0, 44, 45, 48, 91, 93, 101, 0x2028)))
            + whole[place + 1 :]
        )
    return " ".join(pieces)


def nonsense(rng: random.Random, depth: int) -> str:
    """Some JSON, legal or not."""
    if depth == 0 or rng.random() < 0.4:
        return rng.choice(ODD_NUMBERS)
    inner = [nonsense(rng, depth - 1) for _ in range(rng.randrange(4))]
    if rng.random() < 0.7:
        return "[" + ", ".join(inner) + "]"
    return "{" + ", ".join(f'"{rng.choice("aab")}": {x}' for x in inner) + "}"


def main(count: int = 2000, seed: int = 0) -> int:
    """Fuzz every verifier; the exit code."""
    bad = 0
    for name in PROBLEMS:
        started = time.monotonic()
        tally = fuzz(name, count, seed)
        seconds = time.monotonic() - started
        print(f"{name}: {count} answers, {tally.accepted} accepted, {tally.refused} refused, "
              f"{len(tally.faults)} faults, {seconds:.0f} s")  # fmt: skip
        for fault in tally.faults[:10]:
            print(f"  {fault}")
        bad += len(tally.faults)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*(int(x) for x in sys.argv[1:])))
