"""The container engine: reach it, have the image there, and the settings of every container.

Any engine that speaks Docker's interface: Docker as root or rootless, Podman's socket. It is found
as the docker command finds it: DOCKER_HOST, else the default socket.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from eurekaflow.verifiers import docker_rootfs, worker
from eurekaflow.verifiers.sandbox import Limits, SandboxUnavailable

REPOSITORY = "eurekaflow-candidate"
LABEL = "eurekaflow.sandbox"
HOST = "eurekaflow.host"  # label: the process that a container belongs to
ENDED = ("created", "exited", "dead")
DOCKER = Path(__file__).resolve().parent.parent / "docker"
ZYGOTES_BYTES = 512 << 20  # the porter and two zygotes, one with scipy, beside the candidate
OWN_PROCESSES = 16
THREADS = 64
ULIMITS = {"core": 0, "nofile": 1024}
USER = "65534:65534"
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
    "from eurekaflow.verifiers.docker_porter import main; main()"
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
            self.about: dict[str, Any] = self.api.info()
            parts = [part.get("Name", "") for part in self.api.version().get("Components", ())]
        except (DockerException, OSError) as problem:
            raise SandboxUnavailable(f"no container engine answers ({problem}); {REACH}") from None

        self._file_limit, self._ulimits = f",nr_inodes={SCRATCH_FILES}", dict(ULIMITS)
        if "Podman Engine" in parts:  # it refuses the option, and raises limits unless told not to
            self._file_limit = ""
            self._ulimits["nproc"] = 16384

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

    def create(self, shape: Shape, recipe: Recipe, *, cpus: str) -> str:
        """A new container's id; nothing in it runs yet. Raises SandboxUnavailable."""
        scratch = f"rw,exec,nosuid,nodev,mode=1777,size={shape.scratch_bytes}"
        memory = shape.memory_bytes + shape.scratch_bytes + ZYGOTES_BYTES
        settings = self.api.create_host_config(
            network_mode="none",
            read_only=True,
            tmpfs={"/scratch": scratch + self._file_limit},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            pids_limit=shape.processes + THREADS + OWN_PROCESSES,
            mem_limit=memory,
            memswap_limit=memory,
            nano_cpus=None if cpus else 10**9,
            cpuset_cpus=cpus or None,
            ipc_mode="none",
            log_config={"type": "none", "config": {}},
            ulimits=[{"name": k, "soft": v, "hard": v} for k, v in self._ulimits.items()],
            runtime=recipe.runtime,
        )
        try:
            made = self.api.create_container(
                recipe.image, command=[*PYTHON, "-c", BOOT],
                stdin_open=True, host_config=settings,
                labels={LABEL: "candidate", HOST: str(os.getpid())},
                environment=ENVIRONMENT, hostname="candidate", user=USER, network_disabled=True,
            )  # fmt: skip
        except (self.errors, OSError) as problem:
            raise SandboxUnavailable(f"a container could not be created: {problem}") from None
        return str(made["Id"])


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
