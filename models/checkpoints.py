"""Checkpoint folders on disk: hash, check, publish by rename, never half there.

A folder holds the files of one version of the weights. It is written under a staging name, synced,
and renamed onto its final name; what a row in the archive says about it (names and sha256) is the
truth that `check` compares with. Both names end in the epoch of the owner that wrote the files, so
an owner that was frozen and wakes up can neither overwrite nor remove what its successor made.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eurekaflow.models.errors import CheckpointDamaged
from eurekaflow.models.faultpoints import reach


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(folder: Path, files: Mapping[str, str], *, size_bytes: int = 0) -> None:
    """Raise CheckpointDamaged unless `folder` holds every named file with its sha256.

    A known `size_bytes` of all files together tells a torn file without reading any.
    """
    for name in files:
        if not (folder / name).is_file():
            raise CheckpointDamaged(f"{folder / name} is missing", RESTORE)
    found_bytes = size(folder, files)
    if size_bytes and found_bytes != size_bytes:
        raise CheckpointDamaged(
            f"{folder} is torn: {found_bytes} bytes, expected {size_bytes}", RESTORE
        )
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter's lock
        digests = pool.map(sha256, [folder / name for name in files])
    for (name, expected), found in zip(files.items(), digests, strict=True):
        if found != expected:
            raise CheckpointDamaged(
                f"{folder / name} is altered: sha256 {found}, expected {expected}", RESTORE
            )


def size(folder: Path, files: Iterable[str]) -> int:
    """Bytes of the named files together."""
    return sum((folder / name).stat().st_size for name in files)


def final_name(staged: str) -> Path:
    """Where a staging folder goes, below the run's folder: `staging-7-3` to `checkpoints/00008-3`.

    The last number is the epoch; folders of older programs have none.
    """
    _, step, *epoch = staged.split("-")
    return Path("checkpoints") / "-".join([f"{int(step) + 1:05d}", *epoch])


def publish(
    staged: Path,
    target: Path,
    files: Mapping[str, str],
    *,
    confirm: Callable[[], object],
    fresh: bool = False,
) -> int:
    """Move a checked staging folder onto its final name; returns its size in bytes.

    Safe to repeat: a target that is there and sound stays, and only the syncing is done again.
    `confirm` raises when the run is no longer ours; it is called before anything is moved. What
    this process has written itself a moment ago is `fresh`, and not read again.
    """
    if staged.exists() and not sound(target, files):
        if not fresh:
            check(staged, files)
        _move(staged, target, confirm)
    else:
        check(target, files)
    for folder in target.parents[:3]:  # the run's folders may be as new as the checkpoint
        sync_folder(folder)
    reach("publish.after_folder_fsync")
    return size(target, files)


def copy(source: Path, target: Path, files: Iterable[str]) -> None:
    """Copy the named files into a new folder and sync them; moving it is the caller's."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in files:
        with (source / name).open("rb") as old, (target / name).open("wb") as new:
            shutil.copyfileobj(old, new)
            new.flush()
            os.fsync(new.fileno())
    sync_folder(target)


def sound(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether `folder` holds every named file with its sha256."""
    try:
        check(folder, files)
    except CheckpointDamaged:
        return False
    return True


def _move(staged: Path, target: Path, confirm: Callable[[], object]) -> None:
    confirm()
    shutil.rmtree(target, ignore_errors=True)  # of the same epoch, and damaged
    target.parent.mkdir(parents=True, exist_ok=True)
    confirm()
    reach("publish.before_rename")
    try:
        os.rename(staged, target)
    except OSError:
        confirm()  # a successor has moved it
        raise
    reach("publish.after_rename")


def surplus(
    steps: Sequence[int], *, last: int, every: int | None, best: int | None
) -> dict[int, str]:
    """Which of the kept checkpoints (by step) go, and why: neither new, nor nth, nor the best."""
    newest = set(sorted(steps)[-last:])
    kept = newest | {best} | {s for s in steps if every is not None and (s + 1) % every == 0}
    rule = f"not among the newest {last}"
    rule += f", nor every {every}th" if every is not None else ""
    rule += ", nor the best" if best is not None else ""
    return {step: rule for step in sorted(steps) if step not in kept}


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


RESTORE = (
    "eureka resume replays it; if that fails, eureka resume RUN --fresh-policy keeps the tree"
)
