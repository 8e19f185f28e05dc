"""Checks a claimed answer with the standard library alone: `python -I -S check.py [FOLDER]`.

Reads answer.json and claim.json beside this file, recomputes the score in exact arithmetic and
compares it with the claimed fraction. It shares no code with the program that found the answer.
Prints the verdict; exits with 0 when the claim holds, else with 1.
"""

import decimal
import itertools
import json
import sys
from fractions import Fraction
from pathlib import Path

EXACT = decimal.Context(
    prec=decimal.MAX_PREC,
    Emax=decimal.MAX_EMAX,
    Emin=decimal.MIN_EMIN,
    traps=[decimal.Inexact, decimal.InvalidOperation],
)


class Refused(Exception):
    """The answer breaks a rule, or is not worth what is claimed."""


def number(value: object) -> Fraction:
    """A JSON number as the exact value of its double."""
    if type(value) not in (int, float):
        raise Refused(f"{value!r} is not a number")
    try:
        return Fraction(float(value))  # type: ignore[arg-type]
    except (OverflowError, ValueError):
        raise Refused(f"{value!r} is not finite") from None


def integers(values: list[Fraction]) -> list[int]:
    """The values times their common denominator."""
    scale = max(value.denominator for value in values)  # powers of two
    return [int(value * scale) for value in values]


def product(a: list[int], b: list[int]) -> list[int]:
    """All coefficients of the product of two sequences, through one big multiplication."""
    width = len(str(min(len(a), len(b)) * max(a) * max(b)))
    packed = [decimal.Decimal("".join(str(x).zfill(width) for x in v)) for v in (a, b)]
    digits = str(EXACT.multiply(*packed)).zfill(width * (len(a) + len(b) - 1))
    return [int(digits[i : i + width]) for i in range(0, len(digits), width)]


def step_function(answer: object) -> list[int]:
    """Non-negative heights, not all zero, as integers."""
    if not isinstance(answer, list) or not answer:
        raise Refused("the answer must be a list of heights")
    heights = [number(value) for value in answer]
    if min(heights) < 0 or max(heights) == 0:
        raise Refused("heights must be >= 0 and not all 0")
    return integers(heights)


def erdos(answer: object) -> Fraction:
    """max_k (2/n) sum h_i (1 - h_{i+k}) of h scaled to sum n/2; it must then be at most 1.

    Doubles cannot hold that sum exactly: cells above 1 by up to 1e-9 become 1, largest first, and
    the others share the rest in proportion.
    """
    heights = step_function(answer)
    n, total = len(heights), sum(heights)
    if Fraction(max(heights) * n, 2 * total) > 1 + Fraction(1, 10**9):
        raise Refused("scaled to sum n/2, h exceeds 1")
    full: set[int] = set()
    for i in sorted(range(n), key=lambda i: -heights[i]):
        if heights[i] * (n - 2 * len(full)) <= 2 * total:
            break
        full.add(i)
        total -= heights[i]
    one = 2 * total
    h = [one if i in full else x * (n - 2 * len(full)) for i, x in enumerate(heights)]
    if 2 * sum(h) != n * one or max(h) > one:
        raise Refused("h cannot be scaled to sum n/2 within [0, 1]")
    overlaps = product(h, [one - x for x in reversed(h)])
    return Fraction(2 * max(overlaps), n * one * one)


def ac1(answer: object) -> Fraction:
    """2n max(a*a) / sum(a)^2."""
    a = step_function(answer)
    return Fraction(2 * len(a) * max(product(a, a)), sum(a) ** 2)


def ac2(answer: object) -> Fraction:
    """||f*f||_2^2 / (||f*f||_1 ||f*f||_inf), f*f linear between its knots."""
    a = step_function(answer)
    y = [0, *product(a, a), 0]
    thirds = sum(u * u + u * v + v * v for u, v in itertools.pairwise(y))
    return Fraction(thirds, 3 * sum(y) * max(y))


def packing(answer: object, count: int) -> Fraction:
    """The sum of the radii of `count` discs that neither overlap nor leave the unit square."""
    if not isinstance(answer, list) or len(answer) != count:
        raise Refused(f"the answer must be {count} rows of [x, y, r]")
    if not all(isinstance(row, list) and len(row) == 3 for row in answer):
        raise Refused("every row must be [x, y, r]")
    discs = [tuple(number(value) for value in row) for row in answer]
    for i, (x, y, r) in enumerate(discs):
        if not (r > 0 and r <= x <= 1 - r and r <= y <= 1 - r):
            raise Refused(f"disc {i} leaves the square or has no positive radius")
        for j, (u, v, s) in enumerate(discs[:i]):
            if (x - u) ** 2 + (y - v) ** 2 < (r + s) ** 2:
                raise Refused(f"discs {j} and {i} overlap")
    return sum((r for _, _, r in discs), Fraction(0))


def exact_score(problem: str, answer: object) -> Fraction:
    """The score of an answer. Raises Refused."""
    if problem.startswith("circle-packing-"):
        return packing(answer, int(problem.rpartition("-")[2]))
    known = {"erdos": erdos, "ac1": ac1, "ac2": ac2}
    if problem not in known:
        raise Refused(f"no check for {problem!r}")
    return known[problem](answer)


def main(folder: Path) -> int:
    """Check the claim in a folder; the exit code."""
    sys.set_int_max_str_digits(0)
    claim = json.loads((folder / "claim.json").read_text(encoding="utf-8"))
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    try:
        score = exact_score(claim["problem"], answer)
        if score != Fraction(claim["exact"]):
            raise Refused(f"the score is {float(score):.15g}, not the claimed {claim['printed']}")
    except Refused as reason:
        print(f"REFUSED: {reason}")
        return 1
    print(f"holds: {claim['problem']}, {claim['metric']} = {claim['printed']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent))
