"""The contests' inputs bit for bit, and their scores against slow oracles written another way."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from eurekaflow.verifiers import ahc039, ahc058
from eurekaflow.verifiers.contest_random import ContestRandom, chacha20, key_of, rounded
from eurekaflow.verifiers.contest_text import InvalidOutput
from eurekaflow.verifiers.lookup import load

CHECKSUMS = json.loads((Path(__file__).parent / "data/ahc_input_sha256.json").read_text())
FUZZ = 2_000
FISH = [(0, 0), (5, 5), (9, 2), (3, 7), (5, 6), (1, 1), (10, 10), (4, 4)]
SMALL_SEA = "4\n" + "".join(f"{x} {y}\n" for x, y in FISH)


@pytest.mark.parametrize("name", ["ahc039", "ahc058"])
def test_inputs_are_the_official_files(name: str) -> None:
    generate = {"ahc039": ahc039, "ahc058": ahc058}[name].generate_input
    found = {seed: sha256(generate(int(seed))) for seed in CHECKSUMS["sha256"][name]}
    assert found == CHECKSUMS["sha256"][name]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_chacha20_gives_the_published_key_stream() -> None:
    """Bernstein's all-zero vector (also RFC 8439, appendix A.1, vector 1)."""
    stream = chacha20([0] * 8, 0, 1).astype("<u4").tobytes()
    assert stream.hex().startswith(
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    )


def test_the_key_stream_goes_on_over_the_edge_of_what_is_computed_at_a_time() -> None:
    rng = ContestRandom(7)
    drawn = [rng.u32() for _ in range(4096 * 16 - 1)]
    crossing = rng.u64()
    whole = chacha20(key_of(7), 0, 4097).tolist()
    assert drawn == whole[: len(drawn)]
    assert crossing == whole[len(drawn)] | whole[len(drawn) + 1] << 32


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_a_seed_outside_64_bits_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="64-bit"):
        ahc058.generate_input(seed)


@pytest.mark.parametrize(
    ("x", "expected"), [(0.5, 1), (-0.5, -1), (0.49999999999999994, 0), (2.5, 3), (-2.4, -2)]
)
def test_halves_are_rounded_away_from_zero(x: float, expected: int) -> None:
    assert rounded(x) == expected


def test_the_held_out_seeds_are_the_official_ones_or_fresh_and_never_local() -> None:
    for name in ("ahc039", "ahc058"):
        problem = load(name)
        final = problem.final_cases()  # type: ignore[attr-defined]
        assert len(set(final)) == 150
        assert not set(final) & set(range(150))
    assert load("ahc039").final_cases()[0] == 7882753771510266308  # type: ignore[attr-defined]
    assert len(ahc039.generate_input(7882753771510266308).split()) == 20_001


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
    outside = flooded(outline)
    held = [point in outline or point not in outside for point in fish]
    half = len(fish) // 2
    return max(0, sum(held[:half]) - sum(held[half:]) + 1)


def flooded(outline: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Grid points of [-1, 13]^2 that a walk from the corner reaches without crossing the outline.

    Walks on a grid twice as fine, where two neighbouring lines do not merge.
    """
    wall = {(2 * x, 2 * y) for x, y in outline}
    ring = set()
    for x, y in outline:
        for dx, dy in ((1, 0), (0, 1)):
            if (x + dx, y + dy) in outline:
                ring.add((2 * x + dx, 2 * y + dy))
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


def test_the_net_is_judged_as_a_flood_fill_judges_it() -> None:
    rng, valid = random.Random(39), 0
    for _ in range(FUZZ):
        output = fuzzed_net(rng)
        try:
            found: int | None = ahc039.score(SMALL_SEA, output)
        except InvalidOutput:
            found = None
        expected = slow_score(SMALL_SEA, output)
        assert found == expected, output
        valid += expected is not None
    assert valid > FUZZ // 10


def test_a_net_around_everything_and_one_around_a_single_mackerel() -> None:
    sea = ahc039.generate_input(0)
    whole = polygon([(0, 0), (100_000, 0), (100_000, 100_000), (0, 100_000)])
    assert ahc039.score(sea, whole) == 1
    x, y = (int(n) for n in sea.splitlines()[1].split())
    one = polygon([(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)])
    assert ahc039.score(sea, one) == 2


def test_the_last_of_several_nets_counts() -> None:
    small, large = [(0, 0), (1, 0), (1, 1), (0, 1)], [(0, 0), (9, 0), (9, 9), (0, 9)]
    assert ahc039.score(SMALL_SEA, polygon(large) + polygon(small)) == 1
    assert ahc039.score(SMALL_SEA, polygon(small) + polygon(large)) == 2


def test_collinear_neighbours_may_go_on() -> None:
    net = [(0, 0), (4, 0), (9, 0), (9, 9), (0, 9)]
    assert ahc039.score(SMALL_SEA, polygon(net)) == 2


def test_the_picture_is_an_svg_with_every_fish_and_the_net() -> None:
    sea = ahc039.generate_input(1)
    net = polygon([(0, 0), (9, 0), (9, 9), (0, 9)])
    root = ET.fromstring(ahc039.picture(sea, net))
    assert root.tag.endswith("svg")
    assert len(root.findall("{*}polygon")) == 1
    assert sum(path.attrib["d"].count("M") for path in root.findall("{*}path")) == 10_000
    assert ET.fromstring(ahc039.picture(sea, "<&")).findall("{*}polygon") == []


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


@pytest.mark.slow
def test_the_apple_game_is_judged_as_its_rules_read() -> None:
    rng, valid = random.Random(58), 0
    for case in range(FUZZ):
        text = ahc058.generate_input(case % 20)
        output = fuzzed_plan(rng)
        try:
            found: int | None = ahc058.score(text, output)
        except InvalidOutput:
            found = None
        expected = slow_farm(text, output)
        assert found == expected, output
        valid += expected is not None
    assert valid > FUZZ // 10


def test_doing_nothing_scores_nothing_but_is_valid() -> None:
    assert ahc058.score(ahc058.generate_input(0), "-1\n" * 500 + "whatever follows") == 0


@pytest.mark.parametrize("module", [ahc039, ahc058])
def test_random_bytes_are_never_more_than_invalid(module: object) -> None:
    rng = random.Random(3)
    text = module.generate_input(0)  # type: ignore[attr-defined]
    for _ in range(FUZZ):
        noise = bytes(rng.choices(b"0123456789 \n-+.e\xff\x00#", k=rng.randrange(60)))
        with pytest.raises(InvalidOutput):
            module.score(text, noise.decode("utf-8", errors="replace"))  # type: ignore[attr-defined]
