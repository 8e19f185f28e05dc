"""Checkpoint folders on disk: hash, check, publish by rename, never half there.

A folder holds the files of one version of the weights. It is written under a staging name, synced,
and renamed onto its final name; what a row in the archive says about it (names and sha256) is the
truth that `check` compares with.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from eurekaflow.models.errors import CheckpointDamaged


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(folder: Path, files: Mapping[str, str]) -> None:
    """Raise CheckpointDamaged unless `folder` holds every named file with its sha256."""
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointDamaged(f"{path} is missing", RESTORE)
        found = sha256(path)
        if found != expected:
            raise CheckpointDamaged(
                f"{path} is altered: sha256 {found}, expected {expected}", RESTORE
            )


def publish(staged: Path, target: Path, files: Mapping[str, str]) -> int:
    """Move a checked staging folder onto its final name; returns its size in bytes.

    Safe to repeat: when the folder was already moved by an earlier try, only the check is left.
    """
    if staged.exists():
        check(staged, files)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(staged, target)
        sync_folder(target.parent)
    check(target, files)
    return sum(f.stat().st_size for f in target.iterdir())


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


RESTORE = "restore the file from a backup, or start a new run"
