"""Layers have names that do not depend on the backend, and each says what brings it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eurekaflow.verifiers import docker_sandbox, layers
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import SandboxUnavailable

ALWAYS = {"rlimits", "unprivileged", "session"}


@pytest.fixture
def single() -> Iterator[ProcessSandbox]:
    with ProcessSandbox(1) as backend:
        yield backend


def test_the_layers_of_the_documented_example_are_there_or_each_is_named_with_its_fix() -> None:
    page = (Path(__file__).parents[1] / "docs" / "security.md").read_text()
    example = re.search(r"--set sandbox_layers=([a-z,_-]+)", page)
    assert example is not None
    wanted = frozenset(example[1].split(","))
    assert wanted <= set(layers.FIXES)
    said = ""
    try:
        ProcessSandbox(1, required=wanted).close()
    except SandboxUnavailable as refused:
        said = str(refused)
    lost = said.partition("not the required ")[2].partition(";")[0].split(", ") if said else []
    assert set(lost) <= {"cgroup-memory", "minimal-root"}
    assert all(f"{name}: {layers.FIXES[name]}" in said for name in lost)


def test_every_layer_that_holds_here_has_a_fix_where_it_does_not(single: ProcessSandbox) -> None:
    assert set(single.layers) - ALWAYS <= set(layers.FIXES)


def test_what_every_container_must_have_is_known_by_name() -> None:
    assert set(layers.FIXES) >= docker_sandbox.LEAST


def test_a_missing_layer_is_named_with_what_brings_it_and_an_unknown_one_as_such() -> None:
    with pytest.raises(SandboxUnavailable) as caught:
        layers.require(("seccomp",), ("seccomp", "landlock", "warp-drive"), backend="process")
    assert "not the required landlock, warp-drive; landlock: use Linux 5.13" in str(caught.value)
    assert "warp-drive: no layer is called so; there are cgroup-cpu" in str(caught.value)
