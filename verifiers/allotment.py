"""Exclusive cores for timed candidates, over all runs of one machine, and a second try under load.

A core is an advisory lock on a file of its own: the kernel frees it when its holder dies, however
that happens, and no two holders, of whatever run or user, ever have the same core. Waiting for a
core is queueing time, not running time.

What it does not stop: programs that do not take part, this machine's other services among them.
They show in the load, which is why a timeout on a loaded host is run once more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits, Sandbox, SandboxUnavailable

FOLDER = Path("/tmp/eurekaflow-cores")
POLL_S = 0.02
LAYER = "exclusive-core"
LOADED = 1.25  # runnable tasks for each core, over the last minute


class Cores:
    """The cores that this process may use, handed out one at a time; safe to use from threads."""

    def __init__(self, folder: Path = FOLDER, cpus: frozenset[int] | None = None) -> None:
        """`cpus`: those that the kernel grants this process unless named."""
        self.cpus = cpus or frozenset(os.sched_getaffinity(0))
        self._folder = folder
        self._taken: set[int] = set()
        self._freed = threading.Condition()
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o777)
            folder.chmod(0o1777)

    @contextlib.contextmanager
    def one(self) -> Iterator[int]:
        """Hold a core that nobody else holds; waits until there is one."""
        core, held = self._take()
        try:
            yield core
        finally:
            os.close(held)
            with self._freed:
                self._taken.discard(core)
                self._freed.notify_all()

    def _take(self) -> tuple[int, int]:
        while True:
            with self._freed:
                for core in sorted(self.cpus - self._taken):
                    if (held := self._lock(core)) is not None:
                        self._taken.add(core)
                        return core, held
                self._freed.wait(POLL_S)

    def _lock(self, core: int) -> int | None:
        """A descriptor that holds the core, or None when another process has it."""
        path = self._folder / f"core-{core}"
        try:
            held = _opened(path)
        except OSError as problem:
            raise SandboxUnavailable(
                f"the lock of core {core} cannot be opened: {problem}; remove {self._folder}"
            ) from None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            return None
        with contextlib.suppress(PermissionError):  # the first user's umask shuts nobody out
            os.fchmod(held, 0o666)
        return held


def _opened(path: Path) -> int:
    """The lock's descriptor. Another user's file in a shared folder opens only without O_CREAT
    (fs.protected_regular), so it is made only where there is none."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)
    with contextlib.suppress(FileExistsError):
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    return os.open(path, flags)


class AllottedSandbox:
    """A sandbox that gives each candidate a core to itself. See `Sandbox` for the contract."""

    def __init__(self, inner: Sandbox, cores: Cores) -> None:
        self._inner, self._cores = inner, cores

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def layers(self) -> tuple[str, ...]:
        return (*self._inner.layers, LAYER)

    def run(self, job: Job, limits: Limits) -> Execution:
        """Run on a core of its own."""
        queued = time.monotonic()
        with self._cores.one() as core:
            waited = time.monotonic() - queued
            execution = self._inner.run(job, replace(limits, cpus=(core,)))
        return replace(execution, queue_s=execution.queue_s + waited)

    def close(self) -> None:
        """Close the sandbox within."""
        self._inner.close()


def host_is_loaded() -> bool:
    """Whether more wants to run on this host than it has cores."""
    return os.getloadavg()[0] > LOADED * (os.cpu_count() or 1)


def run_fairly(
    sandbox: Sandbox,
    job: Job,
    limits: Limits,
    *,
    settle: Callable[[Execution], Execution] = lambda execution: execution,
    delayed: Callable[[Execution], bool] = lambda _: host_is_loaded(),
) -> Execution:
    """Run a timed candidate; a timeout that the host may have caused once more, both recorded.

    The only place that runs anything twice. `settle` may call an execution late that no limit
    ended, `delayed` says whether the host made it wait.
    """
    first = settle(sandbox.run(job, limits))
    if first.cause is not Cause.TIMEOUT or not delayed(first):
        return first
    second = settle(sandbox.run(job, limits))
    return replace(second, earlier=(first,), queue_s=first.queue_s + second.queue_s)
