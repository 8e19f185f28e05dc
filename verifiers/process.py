"""The embedded sandbox: a pool of zygotes on this machine, one candidate at a time in each.

A slot of the pool has a zygote with numpy, and one with scipy as well from the first program that
names it: forking costs what is loaded, so the others need not pay for scipy.

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

from eurekaflow.verifiers import cgroup, layers
from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits, SandboxUnavailable
from eurekaflow.verifiers.worker import Worker, WorkerFailed

LEVELS = ("namespaces", "landlock")
UNCONFINED = "none"
ATTEMPTS = 2  # the second time on a fresh zygote
_Slot = dict[str, Worker]  # by what is preloaded
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
        cgroup.sweep()
        self.level, first = _start_first((*levels, UNCONFINED) if unsafe else tuple(levels))
        self._layers = first.wait_ready()
        self._workers = {first}
        self._slots = workers
        self._idle: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()
        self._idle.put({"numpy": first})
        for _ in range(workers - 1):
            self._idle.put({"numpy": self._launch("numpy")})
        try:
            layers.require(self._layers, required or (), backend="process")
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
        stack = "scipy" if "scipy" in job.program or "scipy" in job.prelude else "numpy"
        failures: list[str] = []
        while len(failures) < ATTEMPTS:
            worker = slot.get(stack) or self._launch(stack)
            slot[stack] = worker
            try:
                self._compare(worker)
                execution = worker.run(job, limits)
            except WorkerFailed as problem:
                failures.append(str(problem))
                with self._lock:
                    self.anomalies += 1
                self._retire(slot, stack)
            else:
                if worker.jobs >= self._recycle_after:
                    self._retire(slot, stack)
                    slot[stack] = self._launch(stack)  # it loads while others work
                return execution
        raise SandboxUnavailable(
            f"a job failed on {ATTEMPTS} zygotes in a row: {'; '.join(failures)}. "
            "Run `eureka doctor` to see what the sandbox is missing."
        )

    def _compare(self, worker: Worker) -> None:
        """A later zygote stands behind the same walls as the first, or it is not used."""
        lost = sorted(set(self._layers) - set(worker.wait_ready()))
        if lost:
            raise WorkerFailed(f"a new zygote lacks {', '.join(lost)}, which the first one had")

    def _retire(self, slot: _Slot, stack: str) -> None:
        worker = slot.pop(stack)
        worker.close()
        with self._lock:
            self._workers.discard(worker)

    def _launch(self, stack: str) -> Worker:
        with self._lock:
            if self._closed:
                raise SandboxUnavailable("the sandbox was closed while a job was running")
            worker = Worker(self.level, stack)
            self._workers.add(worker)
        return worker

    def _try_canary(self) -> None:
        execution = self.run(CANARY, Limits())
        if execution.cause is not Cause.RETURNED or execution.result != b"[6.0,0.1]":
            raise SandboxUnavailable(f"the first job of a new sandbox went wrong: {execution}")

    def close(self) -> None:
        """End every zygote and what runs in it; running jobs raise SandboxUnavailable."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            workers = tuple(self._workers)
        for worker in workers:
            worker.end()
        for _ in range(self._slots):  # each running job gives its slot back when its zygote ends
            slot = self._idle.get()
            for worker in (slot or {}).values():
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
        worker = Worker(level, "numpy")
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
    held = worker.wait_ready()
    worker.close()
    return held
