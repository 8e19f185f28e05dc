"""Limits on all processes of a candidate together, where control groups can be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eurekaflow.verifiers import cgroup
from eurekaflow.verifiers.cgroup import PREFIX, ControlGroup
from eurekaflow.verifiers.contract import run, value
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Cause, Limits

FORKS = """
import os, time
children = []
for _ in range(6):
    child = os.fork()
    if child == 0:
        x = bytearray(b'x') * (120 << 20)
        time.sleep(1)
        os._exit(0)
    children.append(child)
return [os.waitpid(child, 0)[1] for child in children]
"""


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A folder laid out as version 2 does; real ones are tested where the kernel has them."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    return tmp_path


def test_version_2_is_limited_by_its_files(second: Path) -> None:
    group = ControlGroup.make(second)
    assert group is not None
    group.limit(memory_bytes=1 << 28, processes=9)
    (folder,) = second.glob(f"{PREFIX}*")
    assert (folder / "memory.max").read_text() == str(1 << 28)
    assert (folder / "memory.swap.max").read_text() == "0"
    assert (folder / "pids.max").read_text() == "9"
    (folder / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert (group.layers, group.kills()) == (("cgroup-memory", "cgroup-pids"), 2)


def test_without_granted_controllers_there_is_no_group(second: Path) -> None:
    (second / "cgroup.subtree_control").write_text("cpu\n")
    assert ControlGroup.make(second) is None


def test_groups_of_hosts_that_are_gone_are_swept(second: Path) -> None:
    (second / f"{PREFIX}4194300-0").mkdir()
    (second / f"{PREFIX}{os.getpid()}-0").mkdir()
    cgroup.sweep(second)
    assert [path.name for path in second.glob(f"{PREFIX}*")] == [f"{PREFIX}{os.getpid()}-0"]


@pytest.mark.slow
@pytest.mark.parametrize("level", ["namespaces", "landlock"])
def test_processes_that_each_keep_to_the_limit_cannot_exceed_it_together(level: str) -> None:
    with ProcessSandbox(1, levels=(level,)) as sandbox:
        if not any(layer.startswith("cgroup") for layer in sandbox.layers):
            pytest.skip("no control group can be had here: not root, nothing delegated")
        limits = Limits(processes=16, memory_bytes=200 << 20)
        assert run(sandbox, FORKS, limits).cause is Cause.MEMORY
        assert value(run(sandbox, "return 1", limits)) == 1
        assert sandbox.anomalies == 0
