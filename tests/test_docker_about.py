"""What is decided from an engine's own words, recorded from real engines: no engine is needed."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from eurekaflow.flows.service_checks import of_engine
from eurekaflow.verifiers import candidate, docker_porter, docker_sandbox, layers
from eurekaflow.verifiers.docker_about import BOOT_V2, DELEGATE, STORAGE, About
from eurekaflow.verifiers.docker_container import Container, ContainerFailed
from eurekaflow.verifiers.docker_engine import NOBODY, Engine, Recipe, Shape
from eurekaflow.verifiers.docker_sandbox import DockerSandbox
from eurekaflow.verifiers.sandbox import Limits, SandboxUnavailable

Answer = dict[str, Any]
RECIPE = Recipe(image="x")
SHAPE = Shape.of(Limits())
ALL = ("cgroup-memory", "cgroup-pids", "cgroup-cpu")
SECCOMP = "name=seccomp,profile=default"


def info(*, limits: bool = True, **other: object) -> Answer:
    """Docker 20.10 as root on cgroup v2, unless said otherwise."""
    given = dict.fromkeys(("MemoryLimit", "PidsLimit", "CpuCfsQuota"), limits)
    return {
        "ServerVersion": "20.10.24", "CgroupVersion": "2", "CgroupDriver": "systemd",
        "Driver": "overlay2", "SecurityOptions": [SECCOMP], **given, **other,
    }  # fmt: skip


def podman(**other: object) -> Answer:
    """Podman 4.3 claims every limit, and does not say here whether it is rootless."""
    return info(ServerVersion="4.3.1", CgroupVersion="1", CgroupDriver="cgroupfs", **other)


def libpod(*controllers: str, rootless: bool) -> Answer:
    security = {"rootless": rootless, "seccompEnabled": True}
    return {"host": {"cgroupControllers": list(controllers), "security": security}}


DOCKER = {"Components": [{"Name": "Engine", "Details": {"ApiVersion": "1.41"}}]}
PODMAN = {"Components": [{"Name": "Podman Engine", "Details": {"APIVersion": "4.3.1"}}]}
V1 = ("cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer", "pids")
ROOTLESS = [SECCOMP, "name=rootless"]
WITHOUT_GROUPS = info(
    limits=False,
    CgroupVersion="1",
    CgroupDriver="none",
    SecurityOptions=[SECCOMP, "name=rootless"],
)


@pytest.mark.parametrize(
    ("answers", "rootless", "lacks"),
    [
        ((info(), DOCKER, {}), False, ()),
        ((info(CgroupVersion="1", CgroupDriver="cgroupfs"), DOCKER, {}), False, ()),
        ((WITHOUT_GROUPS, DOCKER, {}), True, ALL),
        ((info(CgroupDriver="none"), DOCKER, {}), False, ALL),
        ((info(CpuCfsQuota=False), DOCKER, {}), False, ("cgroup-cpu",)),
        ((podman(), PODMAN, libpod(*V1, rootless=False)), False, ()),
        ((podman(Driver="vfs"), PODMAN, libpod(rootless=True)), True, ALL),
        ((podman(), PODMAN, libpod("memory", "pids", rootless=True)), True, ("cgroup-cpu",)),
        ((podman(), PODMAN, {"host": {"cgroupControllers": None}}), False, ALL),
        ((podman(), PODMAN, {}), False, ()),
        (({}, {}, {}), False, ALL),
    ],
)
def test_rootless_engines_and_what_they_lack_are_known(
    answers: tuple[Answer, Answer, Answer], rootless: bool, lacks: tuple[str, ...]
) -> None:
    about = About.of(*answers)
    assert (about.rootless, about.lacks) == (rootless, lacks)
    assert about.podman == (answers[1] is PODMAN)


def test_the_doctor_says_what_an_engine_cannot_do_and_what_mends_it() -> None:
    good = of_engine(About.of(info(), DOCKER, {}))
    assert (good.status, good.message) == ("pass", "Docker 20.10.24, cgroup v2")
    check = of_engine(About.of(podman(Driver="vfs"), PODMAN, libpod(rootless=True)))
    assert check.status == "warn"
    assert check.message == (
        "Podman 4.3.1, rootless, cgroup v1, without cgroup-memory, cgroup-pids, cgroup-cpu; "
        "storage vfs, a copy of the image for every container"
    )
    assert check.fix == f"{BOOT_V2}; {STORAGE}"
    assert of_engine(About.of(info(limits=False), DOCKER, {})).fix == DELEGATE


def engine(*answers: Answer) -> Engine:
    """An engine that was never reached."""
    made = Engine.__new__(Engine)
    made.about = About.of(*answers)
    return made


def test_a_limit_that_the_engine_lacks_is_not_asked_for() -> None:
    whole = engine(info(), DOCKER, {}).limits(SHAPE, RECIPE)
    assert set(whole) == {"mem_limit", "memswap_limit", "pids_limit", "nano_cpus"}
    assert engine(WITHOUT_GROUPS, DOCKER, {}).limits(SHAPE, RECIPE) == {}
    some = engine(podman(), PODMAN, libpod("memory", "pids", rootless=True)).limits(SHAPE, RECIPE)
    assert set(some) == {"mem_limit", "memswap_limit", "pids_limit"}


def test_only_the_containers_of_a_rootless_engine_have_a_user_each() -> None:
    assert engine(info(), DOCKER, {}).user() == NOBODY
    rootless = engine(WITHOUT_GROUPS, DOCKER, {})
    drawn = {rootless.user() for _ in range(20)}
    assert len(drawn) > 15
    assert not drawn & {0, NOBODY}


def test_without_any_bound_on_processes_a_container_is_refused() -> None:
    for bound in ("cgroup-pids", "rlimit-processes"):
        assert "cgroup-pids" not in docker_sandbox.least(("container", bound), hidden=False)
    with pytest.raises(SandboxUnavailable, match="rootless engines need cgroup v2"):
        layers.require(
            docker_sandbox.LEAST,
            docker_sandbox.least(("container",), hidden=False),
            backend="container",
        )
    assert docker_sandbox.least((), hidden=True) == docker_sandbox.LEAST


class Later:
    """A container that was started after the first."""

    def wait_ready(self) -> tuple[str, ...]:
        return ("container", "seccomp")


def test_a_later_container_without_a_layer_of_the_first_is_not_used() -> None:
    sandbox = DockerSandbox.__new__(DockerSandbox)
    later = cast(Container, Later())
    sandbox._layers = ("container",)
    sandbox._compare(later)
    sandbox._layers = ("container", "cgroup-pids")
    with pytest.raises(ContainerFailed, match="lacks cgroup-pids, which the first one had"):
        sandbox._compare(later)


@pytest.mark.parametrize(
    ("word", "holds"), [("100", True), ("99", True), ("101", False), ("max", False), ("-1", False)]
)
def test_a_wider_limit_of_an_outer_group_is_not_taken_for_the_containers(
    tmp_path_factory: pytest.TempPathFactory, word: str, holds: bool
) -> None:
    file = tmp_path_factory.mktemp("group") / "pids.max"
    file.write_text(f"{word}\n")
    assert docker_porter.limited(100, "/nonexistent", str(file)) == holds


def test_a_kernel_without_process_descriptors_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: int) -> int:
        raise OSError(errno.ENOSYS, "as gVisor answers")

    monkeypatch.setattr(os, "pidfd_open", absent)
    host, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = subprocess.Popen(["sleep", "60"])
    assert candidate.handles_of(child.pid) == []
    assert candidate.wait(control, child.pid, [], 0.05) == "wall"
    host.send(b"stop")
    assert candidate.wait(control, child.pid, [], 60) == "asked"
    child.kill()
    assert candidate.wait(control, child.pid, [], 60) == "exit"
    host.close()
    assert candidate.wait(control, child.pid, [], 60) == "exit"  # its end is not lost
    child.wait()
    control.close()


def test_what_is_left_in_any_open_folder_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_porter, "OPEN", ("/nonexistent", str(tmp_path)))
    before = docker_porter.listing()
    (tmp_path / "left-behind").touch()
    assert docker_porter.listing() != before == []
