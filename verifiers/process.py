"""The embedded sandbox: a pool of zygotes on this machine, one candidate at a time in each.

Stops what `confine` says. Needs either user namespaces (in full) or Landlock with seccomp (no
writable folder); with neither it refuses, unless the caller accepts running unconfined.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

import numpy as np

from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits, SandboxUnavailable
from eurekaflow.verifiers.worker import Worker, WorkerFailed

LEVELS = ("namespaces", "landlock")
UNCONFINED = "none"
ATTEMPTS = 2  # the second time on a fresh zygote
CANARY = Job(
    program="def canary(a):\n    return [float(np.sum(X)), a]",
    entry_point="canary",
    arguments={"a": 0.1, "not_asked_for": 1},
    arrays={"X": np.ones((2, 3))},
)
FIX = (
    "allow user namespaces (sysctl user.max_user_namespaces=15000, and on Ubuntu "
    "kernel.apparmor_restrict_unprivileged_userns=0), or use a kernel with Landlock, "
    "or choose the docker sandbox"
)


class ProcessSandbox:
    """See `Sandbox` for the contract. `anomalies` counts zygotes replaced for misbehaving."""

    def __init__(
        self,
        workers: int,
        *,
        recycle_after: int = 500,
        required: frozenset[str] | None = None,
        unsafe: bool = False,
        levels: Sequence[str] = LEVELS,
    ) -> None:
        """Start `workers` zygotes at the first of `levels` that holds here.

        `required` names layers without which to refuse; `unsafe` accepts no confinement at all
        when no level holds. Raises SandboxUnavailable.
        """
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self.anomalies = 0
        self._recycle_after = recycle_after
        self._lock = threading.Lock()
        self._closed = False
        self.level, first = _start_first((*levels, UNCONFINED) if unsafe else tuple(levels))
        self._layers = first.wait_ready()
        self._workers = {first, *(Worker(self.level) for _ in range(workers - 1))}
        self._idle: queue.SimpleQueue[Worker | None] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        try:
            self._require(required or frozenset())
            self._try_canary()
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        return "process"

    @property
    def layers(self) -> tuple[str, ...]:
        return self._layers

    def run(self, job: Job, limits: Limits) -> Execution:
        """Run one job; waits for a free zygote. Raises SandboxUnavailable."""
        queued = time.monotonic()
        worker = self._idle.get()
        queue_s = time.monotonic() - queued
        if worker is None:
            self._idle.put(None)  # wake the next waiting thread too
            raise SandboxUnavailable("the sandbox is closed")
        failures: list[str] = []
        try:
            while len(failures) < ATTEMPTS:
                try:
                    return replace(worker.run(job, limits), queue_s=queue_s)
                except WorkerFailed as problem:
                    failures.append(str(problem))
                    self.anomalies += 1
                    worker = self._replace(worker)
        finally:
            if worker.jobs >= self._recycle_after:
                worker = self._replace(worker)
            self._idle.put(worker)
        raise SandboxUnavailable(
            f"a job failed on {ATTEMPTS} zygotes in a row: {'; '.join(failures)}. "
            "Run `eureka doctor` to see what the sandbox is missing."
        )

    def _replace(self, worker: Worker) -> Worker:
        worker.close()
        with self._lock:
            self._workers.discard(worker)
            if self._closed:
                raise SandboxUnavailable("the sandbox was closed while a job was running")
            fresh = Worker(self.level)
            self._workers.add(fresh)
        return fresh

    def _require(self, required: frozenset[str]) -> None:
        missing = sorted(required - set(self._layers))
        if missing:
            raise SandboxUnavailable(
                f"the sandbox has {', '.join(self._layers)} but not the required "
                f"{', '.join(missing)}; {FIX}"
            )

    def _try_canary(self) -> None:
        execution = self.run(CANARY, Limits())
        if execution.cause is not Cause.RETURNED or execution.result != b"[6.0,0.1]":
            raise SandboxUnavailable(f"the first job of a new sandbox went wrong: {execution}")

    def close(self) -> None:
        """Kill every zygote and what runs in it; running jobs raise SandboxUnavailable."""
        with self._lock:
            self._closed = True
            workers, self._workers = self._workers, set()
        for worker in workers:
            worker.close()
        self._idle.put(None)

    def __enter__(self) -> ProcessSandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _start_first(levels: tuple[str, ...]) -> tuple[str, Worker]:
    """A ready worker at the first level that works; every refusal's reason is in the error."""
    if sys.platform != "linux":
        raise SandboxUnavailable(f"no process sandbox on {sys.platform}; use the docker sandbox")
    reasons = []
    for level in levels:
        worker = Worker(level)
        try:
            worker.wait_ready()
        except WorkerFailed as problem:
            worker.close()
            reasons.append(f"{level}: {problem}")
        else:
            return level, worker
    raise SandboxUnavailable(f"candidates cannot be confined here ({'; '.join(reasons)}); {FIX}")


def probe() -> tuple[str, ...]:
    """The layers that really hold on this machine, strongest level first; for `eureka doctor`."""
    _, worker = _start_first(LEVELS)
    layers = worker.wait_ready()
    worker.close()
    return layers
