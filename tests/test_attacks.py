"""Every attack is blocked with evidence behind every wall, and works where there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from eurekaflow.verifiers.docker_sandbox import DockerSandbox
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Sandbox, SandboxUnavailable
from tests.attacks import suite
from tests.attacks.suite import ATTACKS, Attack, World

pytestmark = pytest.mark.slow

NEEDS_ROOT = frozenset({
    "read_shadow", "read_by_handle", "read_kernel_log", "open_packet", "make_device", "use_bpf",
    "use_perf", "become_root", "listen_for_files", "take_priority", "enter_namespaces",
    "inject_into_terminal", "raise_limits", "spare_itself", "use_userfaultfd", "use_io_uring",
    "make_namespaces", "make_namespaces_by_clone", "mount_something", "mount_by_descriptor",
    "change_root",
})  # fmt: skip
# Malformed bytes harm only who parses them carelessly.
NO_CONTROL = frozenset({
    "duplicate_keys", "deep_nesting", "invalid_text", "wide_numbers", "huge_integers",
})  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(1) as made:
        yield made


@pytest.fixture(scope="module", params=["namespaces", "landlock", "docker"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if request.param == "docker":
        address = request.getfixturevalue("container_engine")
        with DockerSandbox(1, limits=suite.LIMITS, base_url=address) as made:
            yield made
        return
    try:
        backend = ProcessSandbox(1, levels=(request.param,))
    except SandboxUnavailable as reason:
        pytest.skip(str(reason))
    with backend:
        yield backend


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_it_is_blocked_with_evidence(
    attack: Attack, sandbox: Sandbox, judge: Judge, world: World
) -> None:
    result = suite.attempt(attack, sandbox, judge, world)
    assert not result.gains
    assert result.wall


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_without_walls_it_works(attack: Attack, world: World) -> None:
    if attack.name in NO_CONTROL:
        pytest.skip("harms only a careless parser")
    if attack.name in NEEDS_ROOT and os.geteuid() != 0:
        pytest.skip("works for root only")
    assert suite.control(attack, world)


def test_a_harness_that_breaks_shows_no_gain(world: World) -> None:
    program = """
class Payload:
    def __reduce__(self):
        import os
        return os._exit, (3,)
def breaks(world):
    return Payload()
"""
    assert (
        suite.control(
            Attack("forging", "breaks", "An answer that ends its reader.", program), world
        )
        == []
    )


def test_a_claim_alone_is_worth_nothing_where_the_score_is_recomputed(world: World) -> None:
    program = "def claims(world):\n    return [0.5] * 60, 0.1, 60\n"
    assert suite.control(Attack("forging", "claims", "A claim.", program), world) == []


def test_there_are_forty_ideas_and_each_is_said_in_words() -> None:
    assert len(ATTACKS) >= 40
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert all(attack.idea for attack in ATTACKS)


def test_the_published_table_names_every_attack() -> None:
    text = (Path(__file__).parents[1] / "docs" / "security.md").read_text()
    assert [a.name for a in ATTACKS if f"| `{a.name}` |" not in text] == []
