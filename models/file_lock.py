"""Advisory locks on files: who may start a service, who is using it, whether it lives.

The kernel frees a lock when the last process that has the file open is gone, kill -9 included,
so no lock here can be stale. A child that inherits the open file keeps the lock: this is how
a server proves that it, or any process it forked, is still alive.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType


class FileLock:
    """An open, locked file; closing it gives the lock back (unless a child inherited it)."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path

    @property
    def descriptor(self) -> int:
        """The open file, for a child process that is to inherit the lock."""
        return self._descriptor

    def touch(self) -> None:
        """Note in the file's time that it was used now."""
        os.utime(self._descriptor)

    def close(self) -> None:
        """Give the lock back; a second call does nothing."""
        # Closing and not LOCK_UN: unlocking would also take it from children that inherited it.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _lock(path: Path, operation: int) -> FileLock | None:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return FileLock(descriptor, path)


def try_exclusive(path: Path, *, wait_s: float = 0.0) -> FileLock | None:
    """The only lock on `path`, or None while another process has one after `wait_s` seconds."""
    deadline = time.monotonic() + wait_s
    while True:
        lock = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None or time.monotonic() >= deadline:
            return lock
        time.sleep(0.02)


def shared(path: Path) -> FileLock:
    """One of many locks on `path`; waits while somebody has it exclusively."""
    lock = _lock(path, fcntl.LOCK_SH)
    assert lock is not None  # a blocking request ends with the lock or an exception
    return lock


def is_locked(path: Path) -> bool:
    """Whether any process has a lock on `path`."""
    if not path.exists():
        return False
    # A second look: another process may be asking the same question at this moment.
    lock = try_exclusive(path, wait_s=0.1)
    if lock is None:
        return True
    lock.close()
    return False


def lock_owners(path: Path) -> tuple[int, ...]:
    """Process ids that have `path` locked, as far as /proc/locks shows them."""
    try:
        inode = path.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return ()
    rows = [line.split() for line in lines if " FLOCK " in line and "->" not in line]
    found = {int(row[4]) for row in rows if row[5].rpartition(":")[2] == str(inode)}
    return tuple(sorted(pid for pid in found if pid > 0))
