"""Fuzzing the contests' judges: outputs of programs in, a refusal or the true score out.

    .venv/bin/python -m tests.fuzz_contests [COUNT] [SEED]

Nets and plans are random, mostly nearly legal, a tenth of them bytes without sense. The oracles
read the rules literally and share no code with the judges: a flood fill over grid points on a
small sea, and the apple game by dictionaries.
"""

from __future__ import annotations

import math
import random
import re
import sys
import time
from collections.abc import Callable

from eurekaflow.verifiers import ahc039, ahc058
from eurekaflow.verifiers.contest_text import InvalidOutput
from tests.fuzz import SLOWEST_S, Tally

FISH = [(0, 0), (5, 5), (9, 2), (3, 7), (5, 6), (1, 1), (10, 10), (4, 4)]
SMALL_SEA = "4\n" + "".join(f"{x} {y}\n" for x, y in FISH)


def polygon(points: list[tuple[int, int]]) -> str:
    return f"{len(points)}\n" + "".join(f"{x} {y}\n" for x, y in points)


def slow_score(sea: str, output: str) -> int | None:
    """The rules read literally over single grid points; None when invalid. Small seas only."""
    if not re.fullmatch(r"[\s0-9]*", output) or not output.split():
        return None
    numbers, last = [int(token) for token in output.split()], None
    while numbers:
        count = numbers.pop(0)
        if not 4 <= count <= 1000 or len(numbers) < 2 * count:
            return None
        flat, numbers = numbers[: 2 * count], numbers[2 * count :]
        if max(flat) > 100_000:
            return None
        last = list(zip(flat[::2], flat[1::2], strict=True))
    assert last is not None
    path: list[tuple[int, int]] = []  # every grid point of the outline, each vertex once
    for (x, y), (u, v) in zip(last, last[1:] + last[:1], strict=True):
        if (x != u) == (y != v):
            return None
        steps = max(abs(u - x), abs(v - y))
        path += [(x + (u - x) // steps * i, y + (v - y) // steps * i) for i in range(steps)]
    if len(set(path)) < len(path) or len(path) > 400_000:
        return None
    outline = set(path)
    values = [int(token) for token in sea.split()][1:]
    fish = list(zip(values[::2], values[1::2], strict=True))
    outside = flooded(path)
    held = [point in outline or point not in outside for point in fish]
    half = len(fish) // 2
    return max(0, sum(held[:half]) - sum(held[half:]) + 1)


def flooded(path: list[tuple[int, int]]) -> set[tuple[int, int]]:
    """Grid points of [-1, 13]^2 that a walk from the corner reaches without crossing the outline.

    Walks on a grid twice as fine, where two neighbouring lines do not merge.
    """
    wall = {(2 * x, 2 * y) for x, y in path}
    ring = {(x + u, y + v) for (x, y), (u, v) in zip(path, path[1:] + path[:1], strict=True)}
    seen, stack = {(-2, -2)}, [(-2, -2)]
    while stack:
        x, y = stack.pop()
        for point in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
            free = point not in wall and point not in ring and point not in seen
            if free and all(-2 <= c <= 26 for c in point):
                seen.add(point)
                stack.append(point)
    return {(x // 2, y // 2) for x, y in seen if x % 2 == 0 and y % 2 == 0}


def fuzzed_net(rng: random.Random) -> str:
    """A random walk with right angles on a small sea: often simple, often just not."""
    count = rng.choice([4, 4, 6, 6, 8, 10, 3])
    columns = [rng.randrange(13) for _ in range(count)]
    rows = [rng.randrange(13) for _ in range(count)]
    points = [(columns[i // 2], rows[(i + 1) // 2 % (count // 2 or 1)]) for i in range(count)]
    if rng.random() < 0.1:
        points[rng.randrange(count)] = (rng.randrange(13), rng.randrange(13))
    text = polygon(points)
    if rng.random() < 0.1:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["-", ".", "x", " ", "9" * 30, "", "\0", "٣"]) + text[at:]
    return text


def slow_farm(text: str, output: str) -> int | None:
    """The apple game read literally; None when invalid."""
    lines = text.splitlines()
    n, levels, turns, apples = (int(x) for x in lines[0].split())
    a = [int(x) for x in lines[1].split()]
    cost = {(i, j): int(c) for i in range(levels) for j, c in enumerate(lines[2 + i].split())}
    b, p = dict.fromkeys(cost, 1), dict.fromkeys(cost, 0)
    said = [s for line in output.split("\n") if (s := line.split()) and not s[0].startswith("#")]
    if len(said) < turns:
        return None
    for action in said[:turns]:
        if action != ["-1"]:
            if len(action) != 2 or not all(re.fullmatch("[0-9]+", s) for s in action):
                return None
            at = (int(action[0]), int(action[1]))
            if at not in cost or cost[at] * (p[at] + 1) > apples:
                return None
            apples -= cost[at] * (p[at] + 1)
            p[at] += 1
        for i in range(levels):
            for j in range(n):
                made = b[i, j] * p[i, j]
                if i == 0:
                    apples += a[j] * made
                else:
                    b[i - 1, j] += made
    return math.floor(1e5 * math.log2(float(apples)) + 0.5) if apples > 0 else None


def fuzzed_plan(rng: random.Random) -> str:
    actions = ["-1"] * 500
    for turn in range(0, 40, rng.choice([3, 4, 5])):  # these are paid for
        actions[turn] = "0 0"
    for turn in range(rng.choice([60, 200, 460, 500, 500, 500]), 500, rng.choice([7, 50])):
        actions[turn] = f"{rng.choice([0, 0, 0, 1, 2])} {rng.choice([0, 1, 2, 9])}"
    if rng.random() < 0.3:
        at = rng.randrange(500)
        actions[at] = rng.choice(["", "#", "# 1", "0 0 0", "0", "4 0", "0 10", "-1 0", "-0 0",
                                  "0.0 0", "00 0", "-2", "x", "9" * 40, "0\t0",
                                  "٣ 0"])  # fmt: skip
    return "\n".join(actions[: rng.choice([500, 500, 500, 499])])


def noise(rng: random.Random) -> str:
    """A few bytes of what outputs are made of, and of what they are not."""
    drawn = bytes(rng.choices(b"0123456789 \n-+.e\xff\x00#", k=rng.randrange(60)))
    return drawn.decode("utf-8", errors="replace")


def fuzz_nets(count: int, seed: int) -> Tally:
    """Put `count` outputs to the judge of AHC039."""
    return _fuzzed(
        random.Random(f"ahc039 {seed}"),
        [SMALL_SEA],
        count,
        make=fuzzed_net,
        judge=ahc039.score,
        oracle=slow_score,
    )


def fuzz_plans(count: int, seed: int) -> Tally:
    """Put `count` outputs to the judge of AHC058, on twenty inputs in turn."""
    return _fuzzed(
        random.Random(f"ahc058 {seed}"),
        [ahc058.generate_input(case) for case in range(20)],
        count,
        make=fuzzed_plan,
        judge=ahc058.score,
        oracle=slow_farm,
    )


def _fuzzed(
    rng: random.Random,
    inputs: list[str],
    count: int,
    *,
    make: Callable[[random.Random], str],
    judge: Callable[[str, str], int],
    oracle: Callable[[str, str], int | None],
) -> Tally:
    tally = Tally()
    for turn in range(count):
        text = inputs[turn % len(inputs)]
        output = noise(rng) if rng.random() < 0.1 else make(rng)
        started, found = time.process_time(), None
        try:
            found = judge(text, output)
        except InvalidOutput:
            tally.refused += 1
        except Exception as error:
            tally.faults.append(f"{type(error).__name__}: {error} on {output[:200]!r}")
            continue
        else:
            tally.accepted += 1
        if time.process_time() - started > SLOWEST_S:
            tally.faults.append(f"slow on {output[:200]!r}")
        if found != (expected := oracle(text, output)):
            tally.faults.append(f"scored {found}, the oracle says {expected}: {output[:200]!r}")
    return tally


FUZZERS = {"ahc039": fuzz_nets, "ahc058": fuzz_plans}


def main(count: int = 2000, seed: int = 0) -> int:
    """Fuzz both judges; the exit code."""
    tallies = {name: fuzz(count, seed) for name, fuzz in FUZZERS.items()}
    for name, tally in tallies.items():
        print(f"{name}: {count} outputs, {tally.accepted} accepted, {tally.refused} refused, "
              f"{len(tally.faults)} faults")  # fmt: skip
        for fault in tally.faults[:10]:
            print(f"  {fault}")
    return 1 if any(tally.faults for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main(*(int(x) for x in sys.argv[1:])))
