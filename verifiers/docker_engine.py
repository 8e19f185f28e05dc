"""The container engine: reach it, have the image there, and the settings of every container.

Any engine that speaks Docker's interface: Docker as root or rootless, Podman's socket. It is found
as the docker command finds it: DOCKER_HOST, else the default socket.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from eurekaflow.verifiers import docker_rootfs, worker
from eurekaflow.verifiers.docker_about import About, api_of_podman
from eurekaflow.verifiers.sandbox import Limits, SandboxUnavailable

REPOSITORY = "eurekaflow-candidate"
LABEL = "eurekaflow.sandbox"
HOST = "eurekaflow.host"  # label: the process that a container belongs to
ENDED = ("created", "exited", "dead")
DOCKER = Path(__file__).resolve().parent.parent / "docker"
ZYGOTES_BYTES = 512 << 20  # the porter and two zygotes, one with scipy, beside the candidate
OWN_PROCESSES = 16
KERNEL_TASKS = 8  # of the host for one inside, where a runtime brings a kernel of its own (gVisor)
THREADS = 64
ULIMITS = {"core": 0, "nofile": 1024}
NOBODY = 65534
OWN_USERS = range(10_000, 60_000)  # of a rootless engine: its own, and no account of the host
SCRATCH_FILES = 4096
_Content = tuple[str, Callable[[IO[bytes]], None]]  # a tar file and what writes it
REACH = (
    "start the engine (sudo systemctl start docker, or systemctl --user start podman.socket), or "
    "say where it listens: export DOCKER_HOST=unix:///run/user/$UID/docker.sock"
)
ENVIRONMENT = {"PATH": "/usr/bin", "TMPDIR": "/scratch", **worker.ENVIRONMENT}
PYTHON = (os.path.realpath(sys.executable), *worker.FLAGS)
BOOT = (
    f"import sys; sys.path += [{docker_rootfs.SITE!r}, {docker_rootfs.CODE!r}]; "
    "from eurekaflow.verifiers.docker_porter import main; main(*map(int, sys.argv[1:]))"
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What an engine fixes when it creates a container: jobs of one shape share containers."""

    memory_bytes: int
    scratch_bytes: int
    processes: int

    @classmethod
    def of(cls, limits: Limits) -> Shape:
        """The shape that a job with these limits needs."""
        return cls(
            memory_bytes=limits.memory_bytes,
            scratch_bytes=limits.scratch_bytes,
            processes=limits.processes,
        )

    @property
    def memory(self) -> int:
        """Bytes for everything in the container."""
        return self.memory_bytes + self.scratch_bytes + ZYGOTES_BYTES

    @property
    def tasks(self) -> int:
        """Processes and threads for everything in the container."""
        return self.processes + THREADS + OWN_PROCESSES


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What all containers of one sandbox share."""

    image: str
    runtime: str | None = None


class Engine:
    """A connection to the engine, safe to use from many threads."""

    def __init__(self, base_url: str | None = None) -> None:
        """Connect; `base_url` as in DOCKER_HOST. Raises SandboxUnavailable."""
        from docker.api import APIClient
        from docker.client import from_env
        from docker.errors import DockerException

        self.errors: type[Exception] = DockerException
        try:
            self.api: Any = (
                from_env(timeout=120).api
                if base_url is None
                else APIClient(base_url=base_url, timeout=120)
            )
            self.about = self._ask()
        except (DockerException, OSError) as problem:
            raise SandboxUnavailable(f"no container engine answers ({problem}); {REACH}") from None

    def _ask(self) -> About:
        info, version = self.api.info(), self.api.version()
        libpod: dict[str, Any] = {}
        if (api := api_of_podman(version)) is not None:
            answer = self.api.get(f"{self.api.base_url}/v{api}/libpod/info", timeout=120)
            libpod = answer.json() if answer.ok else {}
        return About.of(info, version, libpod)

    def close(self) -> None:
        """Let go of the connections."""
        self.api.close()

    def sweep(self) -> None:
        """Remove the ended containers of hosts that are gone: one that was killed removes none."""
        try:  # asked by label alone: Podman knows no state "dead" and refuses to look for it
            for found in self.api.containers(all=True, filters={"label": f"{LABEL}=candidate"}):
                alive = Path("/proc", found["Labels"].get(HOST) or "-").exists()
                if found["State"] in ENDED and not alive:
                    with contextlib.suppress(self.errors):
                        self.api.remove_container(found["Id"], force=True)
        except (self.errors, OSError) as problem:
            message = f"the engine does not list its containers: {problem}"
            raise SandboxUnavailable(message) from None

    def image(self) -> str:
        """The id of the image for this installation; it and its base are built when absent."""
        base = f"{REPOSITORY}-base:{docker_rootfs.tag()}"
        name = f"{REPOSITORY}:{docker_rootfs.code_tag()}"
        if (found := self._image_id(name)) is not None:
            return found
        if self._image_id(base) is None:
            self._build(base, "base.Dockerfile", ("rootfs.tar", docker_rootfs.write), {})
        code = ("code.tar", docker_rootfs.write_code)
        self._build(name, "candidate.Dockerfile", code, {"BASE": base})
        if (found := self._image_id(name)) is None:
            raise SandboxUnavailable(f"the engine built {name} but does not list it")
        return found

    def _image_id(self, name: str) -> str | None:
        from docker.errors import ImageNotFound

        try:
            return str(self.api.inspect_image(name)["Id"])
        except ImageNotFound:
            return None

    def _build(self, name: str, recipe: str, content: _Content, arguments: dict[str, str]) -> None:
        file = DOCKER / recipe
        if not file.is_file():
            raise SandboxUnavailable(
                f"the engine has no image {name} and {file} is not there to build it from; "
                "install from a source checkout (make install), which has it"
            )
        with tempfile.TemporaryFile() as context:
            _write_context(context, file, content)
            context.seek(0)
            try:
                said = list(
                    self.api.build(
                        fileobj=context, custom_context=True, tag=name, rm=True, decode=True,
                        buildargs=arguments, labels={LABEL: "image"}, network_mode="none",
                    )
                )  # fmt: skip
            except (self.errors, OSError) as problem:
                raise SandboxUnavailable(f"building {name} failed: {problem}") from None
        failed = [line["error"] for line in said if "error" in line]
        if failed:
            raise SandboxUnavailable(f"building {name} failed: {failed[0]}")

    def create(self, shape: Shape, recipe: Recipe) -> str:
        """A new container's id; nothing in it runs yet. Raises SandboxUnavailable."""
        scratch = f"rw,exec,nosuid,nodev,mode=1777,size={shape.scratch_bytes}"
        files = "" if self.about.podman else f",nr_inodes={SCRATCH_FILES}"  # it refuses the option
        settings = self.api.create_host_config(
            network_mode="none",
            read_only=True,
            tmpfs={"/scratch": scratch + files},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            ipc_mode="none",
            log_config={"type": "none", "config": {}},
            ulimits=[{"name": k, "soft": v, "hard": v} for k, v in self._ulimits().items()],
            runtime=recipe.runtime,
            **self.limits(shape, recipe),
        )
        user = self.user()
        told = (shape.memory, shape.tasks, int(user != NOBODY))
        try:
            made = self.api.create_container(
                recipe.image, command=[*PYTHON, "-c", BOOT, *map(str, told)],
                stdin_open=True, host_config=settings,
                labels={LABEL: "candidate", HOST: str(os.getpid())},
                environment=ENVIRONMENT, hostname="candidate", user=f"{user}:{NOBODY}",
                network_disabled=True,
            )  # fmt: skip
        except (self.errors, OSError) as problem:
            raise SandboxUnavailable(f"a container could not be created: {problem}") from None
        return str(made["Id"])

    def limits(self, shape: Shape, recipe: Recipe) -> dict[str, int]:
        """Limits on the whole container; one that the engine lacks would fail with some."""
        tasks = shape.tasks if recipe.runtime is None else shape.tasks * KERNEL_TASKS
        wanted = {
            "cgroup-memory": {"mem_limit": shape.memory, "memswap_limit": shape.memory},
            "cgroup-pids": {"pids_limit": tasks},
            "cgroup-cpu": {"nano_cpus": 10**9},
        }
        given = (limits for layer, limits in wanted.items() if layer not in self.about.lacks)
        return {name: value for limits in given for name, value in limits.items()}

    def _ulimits(self) -> dict[str, int]:
        """Podman's root engine raises the limit on processes unless told not to."""
        raised = self.about.podman and not self.about.rootless
        return {**ULIMITS, "nproc": 16384} if raised else ULIMITS

    def user(self) -> int:
        """The kernel counts processes by user: of a rootless engine each container has its own."""
        return secrets.choice(OWN_USERS) if self.about.rootless else NOBODY


def _write_context(target: IO[bytes], dockerfile: Path, content: _Content) -> None:
    """The build context: the Dockerfile and the one tar file that it adds."""
    name, write = content
    with tempfile.TemporaryFile() as packed, tarfile.open(fileobj=target, mode="w") as archive:
        write(packed)
        size = packed.tell()
        packed.seek(0)
        recipe = dockerfile.read_bytes()
        for entry, file, length in (
            ("Dockerfile", io.BytesIO(recipe), len(recipe)),
            (name, packed, size),
        ):
            info = tarfile.TarInfo(entry)
            info.size, info.mode = length, 0o644
            archive.addfile(info, file)
