"""The container sandbox: a pool of warm, hardened containers, one candidate at a time in each.

A container has no network, a read-only root, one bounded tmpfs, no capabilities, an unprivileged
user and the engine's own filter and limits; inside, a zygote forks each candidate behind a second
wall (`confine`, level "container"). A container is replaced when a candidate was killed, timed
out, left without a result or left something behind, after K candidates, and when limits change
that only the engine can set.

Stops what `confine` says, and holds where a candidate breaks out of that: it is then nobody in a
container without a network. Does not stop a bug in the kernel: `runtime="runsc"` (gVisor) puts a
kernel of its own between.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import replace
from types import TracebackType

from eurekaflow.verifiers import layers
from eurekaflow.verifiers.docker_container import Container, ContainerFailed
from eurekaflow.verifiers.docker_engine import Engine, Recipe, Shape
from eurekaflow.verifiers.process import CANARY
from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits, SandboxUnavailable

ATTEMPTS = 2  # the second time in a fresh container
LEAST = frozenset({
    "container", "no-network", "minimal-root", "no-capabilities", "engine-user", "seccomp",
})  # fmt: skip
BOUNDED = frozenset({"cgroup-pids", "rlimit-processes"})  # either bounds the number of processes


_Slot = dict[Shape, Container]  # one place in the pool: a container for each shape in use
SHAPES = 2  # kept in a slot: compiling and running differ in their limits


class DockerSandbox:
    """See `Sandbox` for the contract. `anomalies` counts containers that failed by themselves."""

    def __init__(
        self,
        workers: int,
        *,
        limits: Limits | None = None,
        recycle_after: int = 500,
        runtime: str | None = None,
        base_url: str | None = None,
        required: frozenset[str] = frozenset(),
    ) -> None:
        """Start `workers` containers for jobs with `limits`; `base_url` as in DOCKER_HOST.

        `required` names layers without which to refuse, beside `LEAST` and one of `BOUNDED`.
        Raises SandboxUnavailable.
        """
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self.anomalies = 0
        self._engine = Engine(base_url)
        self._engine.sweep()
        self._recipe = Recipe(image=self._engine.image(), runtime=runtime)
        self._recycle_after, self._workers = recycle_after, workers
        self._lock = threading.Lock()
        self._closed = False
        self._alive: set[Container] = set()
        self._idle: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()
        try:
            self._layers = self._fill(Shape.of(limits or Limits()))
            hidden = runtime is not None and "cgroup-pids" not in self._engine.about.lacks
            needed = least(self.layers, hidden=hidden) | required
            layers.require(self.layers, needed, backend="container")
            self._try_canary(limits or Limits())
        except BaseException:
            self.close()
            raise

    def _fill(self, shape: Shape) -> tuple[str, ...]:
        try:
            first = self._launch(shape)
            for container in (first, *(self._launch(shape) for _ in range(self._workers - 1))):
                self._idle.put({shape: container})
            return first.wait_ready()
        except ContainerFailed as problem:
            message = f"the sandbox's container does not work: {problem}"
            raise SandboxUnavailable(message) from None

    @property
    def name(self) -> str:
        return "docker"

    @property
    def layers(self) -> tuple[str, ...]:
        runtime = self._recipe.runtime
        return (*self._layers, *([f"runtime-{runtime}"] if runtime else []))

    @property
    def image(self) -> str:
        """The id of the image: a hash of its content."""
        return self._recipe.image

    def run(self, job: Job, limits: Limits) -> Execution:
        """Run one job; waits for a free container. Raises SandboxUnavailable."""
        queued = time.monotonic()
        slot = self._idle.get()
        queue_s = time.monotonic() - queued
        if slot is None:
            self._idle.put(None)  # for the next waiting thread
            raise SandboxUnavailable("the sandbox is closed")
        try:
            return replace(self._run_in(slot, job, limits), queue_s=queue_s)
        finally:
            self._idle.put(slot)

    def _run_in(self, slot: _Slot, job: Job, limits: Limits) -> Execution:
        failures: list[str] = []
        shape = Shape.of(limits)
        while len(failures) < ATTEMPTS:
            try:
                container = self._fit(slot, shape)
                self._compare(container)
                execution = container.run(job, limits)
            except ContainerFailed as problem:
                failures.append(str(problem))
                with self._lock:
                    self.anomalies += 1
                self._retire(slot, shape)
            else:
                if container.spent or container.jobs >= self._recycle_after:
                    self._retire(slot, shape)
                    slot[shape] = self._launch(shape)  # it loads while others work
                return execution
        raise SandboxUnavailable(
            f"a job failed in {ATTEMPTS} containers in a row: {'; '.join(failures)}. "
            "Run `eureka doctor` to see what the sandbox is missing."
        )

    def _fit(self, slot: _Slot, shape: Shape) -> Container:
        """The slot's container of that shape; the one longest unused makes room for a new one."""
        if shape not in slot:
            while len(slot) >= SHAPES:
                self._retire(slot, next(iter(slot)))
            slot[shape] = self._launch(shape)
        slot[shape] = slot.pop(shape)
        return slot[shape]

    def _compare(self, container: Container) -> None:
        """A later container stands behind the same walls as the first, or it is not used."""
        lost = sorted(set(self._layers) - set(container.wait_ready()))
        if lost:
            message = f"a new container lacks {', '.join(lost)}, which the first one had"
            raise ContainerFailed(message)

    def _retire(self, slot: _Slot, shape: Shape) -> None:
        container = slot.pop(shape, None)
        if container is not None:
            container.close()
            with self._lock:
                self._alive.discard(container)

    def _launch(self, shape: Shape) -> Container:
        if self._closed:
            raise SandboxUnavailable("the sandbox was closed while a job was running")
        container = Container(self._engine, shape, self._recipe)
        with self._lock:
            if not self._closed:
                self._alive.add(container)
                return container
        container.close()
        raise SandboxUnavailable("the sandbox was closed while a job was running")

    def _try_canary(self, limits: Limits) -> None:
        execution = self.run(CANARY, limits)
        if execution.cause is not Cause.RETURNED or execution.result != b"[6.0,0.1]":
            raise SandboxUnavailable(f"the first job of a new sandbox went wrong: {execution}")

    def close(self) -> None:
        """Remove every container; running jobs raise SandboxUnavailable."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            containers = tuple(self._alive)
        for container in containers:
            container.kill()
        for container in containers:
            container.close()
        self._idle.put(None)
        self._engine.close()

    def __enter__(self) -> DockerSandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def least(found: tuple[str, ...], *, hidden: bool) -> frozenset[str]:
    """Layers without which no container is used. `hidden` are the control groups that an engine
    says to have and a runtime with a kernel of its own, as gVisor, does not show."""
    return LEAST if hidden or BOUNDED.intersection(found) else LEAST | {"cgroup-pids"}
