"""The container sandbox fulfils the contract on a real engine, and leaves nothing with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eurekaflow.verifiers import cpp, docker_frames, landlock
from eurekaflow.verifiers.contract import SandboxContract, run, value
from eurekaflow.verifiers.docker_container import Container
from eurekaflow.verifiers.docker_engine import Engine, Shape
from eurekaflow.verifiers.docker_frames import FrameError
from eurekaflow.verifiers.docker_rootfs import compiler_packages
from eurekaflow.verifiers.docker_sandbox import DockerSandbox
from eurekaflow.verifiers.sandbox import Cause, Job, Limits, Sandbox, SandboxUnavailable

pytestmark = pytest.mark.slow
RUNTIME = os.environ.get("DOCKER_RUNTIME")  # such as runsc, with a kernel of its own
started = partial(DockerSandbox, runtime=RUNTIME)


@pytest.fixture(scope="module")
def address(container_engine: str | None) -> str | None:
    return container_engine


class TestDocker(SandboxContract):
    @pytest.fixture(scope="class")
    def sandbox(self, address: str | None) -> Iterator[DockerSandbox]:
        with started(2, base_url=address) as backend:
            yield backend
        assert backend.anomalies == 0

    def test_other_files_cannot_be_read(self, sandbox: Sandbox, tmp_path: Path) -> None:
        if "landlock" not in sandbox.layers:
            pytest.skip("without Landlock the container's own /etc and /proc can be read")
        super().test_other_files_cannot_be_read(sandbox, tmp_path)

    def test_the_process_count_is_bounded_when_forking_is_granted(self, sandbox: Sandbox) -> None:
        if RUNTIME is not None:
            pytest.skip("the bound is on the runtime's own threads: the container ends at it")
        super().test_the_process_count_is_bounded_when_forking_is_granted(sandbox)


@pytest.fixture
def single(address: str | None) -> Iterator[DockerSandbox]:
    with started(1, base_url=address) as backend:
        yield backend


def test_every_layer_is_there(single: DockerSandbox) -> None:
    wanted = {"container", "no-network", "minimal-root", "no-capabilities", "engine-user",
              "seccomp", "rlimits", "no_new_privs", "unprivileged", "private-tmp"}  # fmt: skip
    if RUNTIME is None:
        wanted |= {"engine-seccomp", "engine-no-new-privs"}
        wanted |= {"landlock"} if landlock.abi() else set()
    else:
        wanted |= {f"runtime-{RUNTIME}"}
    assert wanted <= set(single.layers)
    assert single.image.startswith("sha256:")


def test_every_limit_is_there_that_the_engine_does_not_say_it_lacks(single: DockerSandbox) -> None:
    if RUNTIME is not None:
        pytest.skip("a kernel of its own does not show the container's control groups")
    about = single._engine.about
    limits = {"cgroup-memory", "cgroup-pids", "cgroup-cpu"}
    assert limits & set(single.layers) == limits - set(about.lacks)
    assert ("rlimit-processes" in single.layers) == about.rootless


def test_a_limit_that_the_engine_lacks_is_refused_when_asked_for(
    single: DockerSandbox, address: str | None
) -> None:
    lacks = single._engine.about.lacks
    if not lacks:
        pytest.skip("this engine gives every limit")
    with pytest.raises(SandboxUnavailable, match=f"not the required {lacks[0]}; .*delegation"):
        started(1, base_url=address, required=frozenset(lacks[:1]))


def test_a_container_serves_many_good_candidates_and_none_after_a_violation(
    single: DockerSandbox,
) -> None:
    bodies = ["return 1", "1 / 0", "return 2", "import os\nos._exit(1)", "return 3"]
    workers = [run(single, body).worker for body in bodies]
    assert workers[0] == workers[1] == workers[2] == workers[3] != workers[4]
    assert single.anomalies == 0


def test_a_removed_container_is_replaced_and_counted(single: DockerSandbox) -> None:
    first = run(single, "return 1")
    for container in list(single._alive):
        container.kill()
    again = run(single, "return 2")
    assert value(again) == 2
    assert again.worker != first.worker
    assert single.anomalies == 1


def test_many_processes_together_keep_to_the_containers_memory(single: DockerSandbox) -> None:
    if "cgroup-memory" not in single.layers:
        pytest.skip("this engine cannot bound a container's memory: it lacks cgroup-memory")
    body = """
import os, time
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        x = bytearray(b'x') * (150 << 20)
        time.sleep(5)
        os._exit(0)
    children.append(child)
return sum(os.waitpid(child, 0)[1] == 0 for child in children)
"""
    limits = Limits(processes=16, memory_bytes=200 << 20, wall_s=20)
    execution = run(single, body, limits)
    assert execution.cause is not Cause.RETURNED or value(execution) < 8
    assert value(run(single, "return 4", limits)) == 4


def test_containers_do_not_share_their_bound_on_processes(address: str | None) -> None:
    body = """
import os, time
for _ in range(60):
    if os.fork() == 0:
        time.sleep(30)
time.sleep(3)
return 60
"""
    limits = Limits(processes=8, wall_s=20)
    assert Shape.of(limits).tasks < 2 * 60
    with started(2, base_url=address) as pair, ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: run(pair, body, limits), range(2)))
    assert [value(execution) for execution in runs] == [60, 60]
    assert runs[0].worker != runs[1].worker


def test_a_cpp_program_is_compiled_and_run(single: DockerSandbox) -> None:
    if not compiler_packages():
        pytest.skip("this machine's packages have no g++ to put into the image")
    source = "#include <iostream>\nint main() { int x; std::cin >> x; std::cout << x * 2; }\n"
    for _ in range(2):
        compiled = cpp.read(single.run(cpp.job(source), cpp.LIMITS))
        assert compiled.failure is None
        ran = single.run(Job(executable=compiled.binary, stdin=b"21"), Limits())
        assert ran.result == b"42"
    assert len(single._alive) == 2  # one for compiling, one for running, both used again


def test_no_engine_refuses_with_the_command_that_starts_one() -> None:
    with pytest.raises(SandboxUnavailable, match="systemctl start docker") as caught:
        DockerSandbox(1, base_url="unix:///nonexistent/engine.sock")
    assert "DOCKER_HOST" in str(caught.value)


def test_a_layer_that_the_engine_does_not_give_refuses(address: str | None) -> None:
    with pytest.raises(SandboxUnavailable, match="not the required warp-drive"):
        started(1, base_url=address, required=frozenset({"warp-drive"}))


class Ending:
    """An engine that learns of a container's end later than the reader of its stream."""

    errors = ValueError

    def __init__(self) -> None:
        self.api = self
        self.states = [{"Running": True}, {"Running": False, "OOMKilled": True}]

    def inspect_container(self, _: str) -> dict[str, dict[str, bool]]:
        return {"State": self.states.pop(0)}


def test_a_memory_bomb_that_ends_the_container_is_the_candidates_doing() -> None:
    container = Container.__new__(Container)
    container.id, container._engine = "x", cast(Engine, Ending())
    assert container._out_of_memory()


def test_the_engine_keeps_an_ended_container_until_its_end_is_known(
    single: DockerSandbox,
) -> None:
    (container,) = single._alive
    about = single._engine.api.inspect_container(container.id)
    assert about["HostConfig"]["AutoRemove"] is False


def test_a_host_that_is_killed_leaves_no_container(address: str | None) -> None:
    script = (
        "import os, sys\n"
        "from eurekaflow.verifiers.docker_sandbox import DockerSandbox\n"
        f"s = DockerSandbox(1, base_url={address!r})\n"
        "print(*[c.id for c in s._alive], flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    (left,) = done.stdout.split()
    engine = Engine(address)
    deadline = time.monotonic() + 30
    while any(row["Id"] == left for row in engine.api.containers()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    engine.sweep()  # as the next sandbox does
    assert not any(row["Id"] == left for row in engine.api.containers(all=True))
    engine.close()


@given(st.binary(max_size=200))
def test_no_bytes_of_a_container_are_taken_for_an_execution(data: bytes) -> None:
    with contextlib.suppress(FrameError):
        values = docker_frames.decode(data)
        docker_frames.execution_of(values, Limits())


@pytest.mark.parametrize(
    "execution",
    [
        {"cause": "returned", "result": None},
        {"cause": "raised", "result": b"x"},
        {"cause": "returned", "result": "text"},
        {"cause": "returned", "result": b"x" * 2000},
        {"cause": "raised", "stdout": b"x" * 2000},
        {"cause": "returned", "result": b"1", "wall_s": "soon", "surprise": 1},
        {"cause": "won"},
        {},
    ],
)
def test_a_reply_that_breaks_its_types_or_limits_is_refused(execution: dict[str, object]) -> None:
    values = docker_frames.decode(docker_frames.encode(execution=execution))
    with pytest.raises(FrameError):
        docker_frames.execution_of(values, Limits(result_bytes=1000, stdout_bytes=1000))


def test_jobs_cross_exactly() -> None:
    job = Job(
        program="x", entry_point="f", arrays={"X": np.array([[0.1, -0.0], [5e-324, np.inf]])}
    )
    limits = Limits(cpus=(1,))
    back, same = docker_frames.job_of(
        docker_frames.decode(docker_frames.encode(job=job, limits=limits))
    )
    assert same == limits
    assert back.arrays["X"].tobytes() == job.arrays["X"].tobytes()
    assert back.arrays["X"].shape == (2, 2)
