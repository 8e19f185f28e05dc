"""The contests' inputs bit for bit, and their scores against slow oracles written another way."""

from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from eurekaflow.verifiers import ahc039, ahc058
from eurekaflow.verifiers.contest_random import ContestRandom, chacha20, key_of, rounded
from eurekaflow.verifiers.lookup import load
from tests.fuzz_contests import SMALL_SEA, polygon

CHECKSUMS = json.loads((Path(__file__).parent / "data/ahc_input_sha256.json").read_text())


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


def test_nets_are_drawn_over_each_other_and_other_constructions_refused() -> None:
    contest = load("ahc039")
    square = np.array([[0.0, 0.0], [9.0, 0.0], [9.0, 9.0], [0.0, 9.0]])
    drawn = contest.picture({"mine": square, "<b>": square + 50})
    assert drawn.count("<polygon") == 2
    assert "<b>" not in drawn
    for wrong in (np.ones(4), np.ones((3, 3)), np.full((4, 2), 1e6)):
        with pytest.raises(ValueError, match="not a polygon"):
            contest.picture({"wrong": wrong})


def test_doing_nothing_scores_nothing_but_is_valid() -> None:
    assert ahc058.score(ahc058.generate_input(0), "-1\n" * 500 + "whatever follows") == 0
