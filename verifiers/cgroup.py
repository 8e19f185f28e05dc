"""A control group for one zygote and all that it forks: limits on the whole tree, where possible.

Version 2 where the memory and pids controllers are granted in a group that this user may write
(root, or a delegated group), version 1 likewise. Elsewhere there is none, and the limits of each
process (`confine.limit_resources`) stand alone.

Stops: many processes that together exceed the memory of one, memory in a tmpfs, forks beyond the
count. A group is named after the host's process, so that a later one can sweep what a killed host
left behind.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "eurekaflow-"
CONTROLLERS = ("memory", "pids")
LIMITS = {  # version: names of the limits on memory, on memory with swap, on processes
    1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "pids.max"),
    2: ("memory.max", "memory.swap.max", "pids.max"),
}
REMOVE_S = 2.0
_numbers = itertools.count()


class ControlGroup:
    """One group, in one folder (version 2) or one for each controller (version 1)."""

    def __init__(self, folders: tuple[Path, ...], version: int) -> None:
        self._folders, self._version = folders, version
        self._now: tuple[int, int] | None = None

    @classmethod
    def make(cls, root: Path = ROOT) -> ControlGroup | None:
        """A new group that this process may fill and limit, or None where there is none."""
        for version, parents in _parents(root):
            name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
            made = cls(tuple(parent / name for parent in parents), version)
            try:
                for folder in made._folders:
                    folder.mkdir()
                made.limit(memory_bytes=1 << 40, processes=1 << 15)
            except OSError:
                made.remove()
            else:
                return made
        return None

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(f"cgroup-{name}" for name in CONTROLLERS)

    def add(self, pid: int) -> None:
        """Move a process in; what it forks from now on is in it too. Raises OSError."""
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def limit(self, *, memory_bytes: int, processes: int) -> None:
        """Set what the whole group may use; costs nothing when it is as it was. Raises OSError."""
        if self._now == (memory_bytes, processes):
            return
        memory, swap, pids = LIMITS[self._version]
        first, last = self._folders[0], self._folders[-1]
        if self._version == 1:  # either of the two must never exceed the other on the way
            with contextlib.suppress(OSError):
                (first / swap).write_text(str(1 << 50))
        (first / memory).write_text(str(memory_bytes))
        with contextlib.suppress(OSError):  # kernels without accounting of swap
            (first / swap).write_text(str(memory_bytes) if self._version == 1 else "0")
        (last / pids).write_text(str(processes))
        self._now = (memory_bytes, processes)

    def kills(self) -> int:
        """How often the kernel has killed in this group for want of memory."""
        name = "memory.events" if self._version == 2 else "memory.oom_control"
        with contextlib.suppress(OSError):
            for line in (self._folders[0] / name).read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
        return 0

    def remove(self) -> None:
        """Remove it, once its processes are gone."""
        deadline = time.monotonic() + REMOVE_S
        for folder in self._folders:
            while folder.is_dir():
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    break
                if time.monotonic() > deadline:
                    return
                time.sleep(0.01)


def _parents(root: Path) -> Iterator[tuple[int, tuple[Path, ...]]]:
    """Where groups might be made: (version, a folder for memory and one for processes)."""
    if (root / "cgroup.controllers").is_file():
        for parent in (_own(root), root):
            with contextlib.suppress(OSError):
                granted = (parent / "cgroup.subtree_control").read_text().split()
                if set(CONTROLLERS) <= set(granted) and os.access(parent, os.W_OK):
                    yield 2, (parent,)
    elif all(os.access(root / name, os.W_OK) for name in CONTROLLERS):
        yield 1, tuple(root / name for name in CONTROLLERS)


def _own(root: Path) -> Path:
    """The group above this process's own, in which siblings may be made."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::/"):
                return (root / line[4:]).parent
    return root


def sweep(root: Path = ROOT) -> None:
    """Remove the groups of hosts that are gone."""
    for _, parents in _parents(root):
        for parent in parents:
            for folder in parent.glob(f"{PREFIX}*"):
                pid = folder.name.removeprefix(PREFIX).partition("-")[0]
                if not Path(f"/proc/{pid}").exists():
                    with contextlib.suppress(OSError):
                        folder.rmdir()
