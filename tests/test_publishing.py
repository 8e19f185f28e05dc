"""Publishing a checkpoint: repeatable, synced, and never at the cost of what a successor made."""

from __future__ import annotations

from pathlib import Path

import pytest

from eurekaflow.models import adapter_files, checkpoints, faultpoints
from eurekaflow.models.checkpoints import copy, final_name, publish
from eurekaflow.models.errors import FencedOut


class Killed(BaseException):
    """The process ends here."""


def lost() -> None:
    raise FencedOut("the run was taken over")


def stage(folder: Path) -> dict[str, str]:
    return adapter_files.stage(folder, {adapter_files.ADAPTER: b"weights"})


def test_the_final_name_keeps_the_epoch_of_the_owner() -> None:
    assert str(final_name("staging-7-3")) == "checkpoints/00008-3"
    assert str(final_name("staging-7")) == "checkpoints/00008"  # of an older program


def test_a_sound_checkpoint_is_never_removed_or_replaced(tmp_path: Path) -> None:
    staged, target = tmp_path / "staging-0-1", tmp_path / "checkpoints" / "00001-1"
    files = stage(target)
    before = (target / adapter_files.ADAPTER).stat()
    stage(staged)
    publish(staged, target, files, confirm=lost)  # nothing is moved, so nobody is asked
    after = (target / adapter_files.ADAPTER).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_nothing_is_moved_for_an_owner_that_lost_the_run(tmp_path: Path) -> None:
    staged, target = tmp_path / "staging-0-1", tmp_path / "checkpoints" / "00001-1"
    files = stage(staged)
    with pytest.raises(FencedOut):
        publish(staged, target, files, confirm=lost)
    assert (staged.exists(), target.exists()) == (True, False)


def test_an_owner_that_wakes_after_its_successor_published_is_told_so(tmp_path: Path) -> None:
    staged, target = tmp_path / "staging-0-1", tmp_path / "checkpoints" / "00001-1"
    files, owned = stage(staged), [True]

    def confirm() -> None:
        if not owned:
            lost()

    def frozen(point: str) -> None:
        if point == "publish.before_rename":  # the successor works meanwhile
            faultpoints.arm(None)
            publish(staged, target, files, confirm=lambda: None)
            owned.clear()

    faultpoints.arm(frozen)
    try:
        with pytest.raises(FencedOut):
            publish(staged, target, files, confirm=confirm)
    finally:
        faultpoints.arm(None)
    checkpoints.check(target, files)


def test_a_rename_that_a_kill_left_unsynced_is_synced_by_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged, target = tmp_path / "staging-0-1", tmp_path / "checkpoints" / "00001-1"
    files, synced = stage(staged), list[Path]()
    monkeypatch.setattr(checkpoints, "sync_folder", synced.append)

    def die(point: str) -> None:
        if point == "publish.after_rename":
            raise Killed

    faultpoints.arm(die)
    try:
        with pytest.raises(Killed):
            publish(staged, target, files, confirm=lambda: None)
    finally:
        faultpoints.arm(None)
    assert synced == []
    publish(staged, target, files, confirm=lambda: None)
    assert target.parent in synced


def test_a_copy_is_synced_file_by_file_and_then_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "staging-0-1"
    files, synced = stage(source), list[str]()
    monkeypatch.setattr(checkpoints.os, "fsync", lambda _: synced.append("file"))
    monkeypatch.setattr(checkpoints, "sync_folder", lambda folder: synced.append(folder.name))
    copy(source, target, files)
    checkpoints.check(target, files)
    assert synced == ["file"] * len(files) + [target.name]
