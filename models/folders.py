"""Files and folders that several processes prepare: one works, all see whole results or none."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eurekaflow.models.file_lock import try_exclusive


@contextmanager
def exclusive(cache: Path, name: str, progress: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock `name` of a cache folder; the kernel frees it when its holder dies.

    The lock file stays: removing it would let two processes lock two different files.
    """
    folder = cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.lock"
    lock = try_exclusive(path)
    if lock is None:
        progress(f"waiting for another process that prepares the same model ({name})")
        lock = try_exclusive(path, wait_s=math.inf)
    assert lock is not None  # waiting without end ends with the lock
    with lock:
        yield


def publish(staging: Path, final: Path) -> None:
    """Flush a flat folder to disk and give it its final name; a crash leaves all or nothing."""
    for path in staging.iterdir():
        _flush(path)
    _flush(staging)
    staging.rename(final)
    _flush(final.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(*paths: Path) -> str:
    """sha256 of the files' bytes one after the other, as `cat FILES | sha256sum` prints it."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
