"""One file that holds the archive and the checkpoints it names; and back, under any home.

A backup is a tar file: `manifest.json`, `archive.dump` (Postgres' custom format), and the folders
of kept checkpoints below `runs/`. Paths in the archive are relative to a run's folder, so nothing
is rewritten. The dump comes first: weights that go while files are copied are replayed on resume.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from eurekaflow.models import schema
from eurekaflow.models.archive import Archive
from eurekaflow.models.checkpoints import sync_folder
from eurekaflow.models.errors import PrerequisiteMissing, RunOwned, UsageError
from eurekaflow.models.postgres_binaries import find_binaries

FORMAT = 1
MANIFEST, DUMP = "manifest.json", "archive.dump"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a backup holds."""

    format: int
    made_at: str
    home: str
    revision: str
    runs: int
    checkpoints: int


def write(home: Path, url: str, file: Path) -> Contents:
    """Write the archive and its kept checkpoints to `file`, whole or not at all."""
    schema.check(url)
    if not file.parent.is_dir():
        raise UsageError(f"the folder {file.parent} does not exist", f"mkdir -p {file.parent}")
    part = file.with_name(file.name + ".part")
    try:
        with tempfile.TemporaryDirectory(prefix="eurekaflow-backup-") as scratch:
            dumped = Path(scratch) / DUMP
            dump(url, dumped)
            runs, folders = kept(home, url)
            contents = Contents(
                format=FORMAT,
                made_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                home=str(home),
                revision=schema.head(),
                runs=runs,
                checkpoints=len(folders),
            )
            manifest = Path(scratch) / MANIFEST
            manifest.write_text(json.dumps(asdict(contents), indent=2), encoding="utf-8")
            with part.open("wb") as stream:
                with tarfile.open(fileobj=stream, mode="w") as tar:
                    tar.add(manifest, MANIFEST)
                    tar.add(dumped, DUMP)
                    for folder in folders:
                        add(tar, folder, str(folder.relative_to(home)))
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(file)
            sync_folder(file.parent)
    finally:
        part.unlink(missing_ok=True)
    return contents


def add(tar: tarfile.TarFile, folder: Path, name: str) -> None:
    """Add a folder's files, as far as a run that goes on has not pruned it meanwhile."""
    for file in sorted(folder.glob("*")):
        with contextlib.suppress(FileNotFoundError):
            tar.add(file, f"{name}/{file.name}")


def kept(home: Path, url: str) -> tuple[int, list[Path]]:
    """The number of runs, and the folders of all checkpoints that are kept."""
    archive = Archive(url)
    try:
        runs = archive.runs(limit=2**31 - 1)
        folders = [
            home / "runs" / str(run.uuid) / row.path
            for run in runs
            for row in archive.checkpoints(run.id)
            if row.state == "kept"
        ]
    finally:
        archive.close()
    return len(runs), [folder for folder in folders if folder.is_dir()]


def read(home: Path, url: str, file: Path, *, replace: bool = False) -> Contents:
    """Put a backup's archive and checkpoints in place. Raises UsageError, RunOwned.

    An archive that holds runs is replaced only when asked to, and never while a run is owned.
    """
    with unpacked(file) as (tar, contents):
        refuse_loss(url, home, replace=replace)
        with tempfile.TemporaryDirectory(prefix="eurekaflow-restore-") as scratch:
            tar.extract(DUMP, scratch, filter="data")
            schema.clear(url)
            restore(url, Path(scratch) / DUMP)
        schema.upgrade(url)
        inside = [m for m in tar.getmembers() if m.name.startswith("runs/")]
        tar.extractall(home, members=inside, filter="data")
    return contents


@contextmanager
def unpacked(file: Path) -> Iterator[tuple[tarfile.TarFile, Contents]]:
    """A backup opened for reading, with its manifest. Raises UsageError for another file."""
    fix = "give a file that `eureka db backup` wrote"
    try:
        with tarfile.open(file) as tar:
            manifest = tar.extractfile(MANIFEST)
            if manifest is None:
                raise KeyError(MANIFEST)
            contents = Contents(**json.load(manifest))
            if contents.format != FORMAT:
                raise UsageError(f"{file} has the format {contents.format}", "upgrade eurekaflow")
            schema.check_newer(contents.revision)
            yield tar, contents
    except (tarfile.TarError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{file} is no backup: {error}", fix) from error
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {file}", fix) from error


def refuse_loss(url: str, home: Path, *, replace: bool) -> None:
    """Raise unless the archive at `url` may be overwritten."""
    if schema.current(url) is None:
        return
    schema.check(url)
    archive = Archive(url)
    try:
        runs = archive.runs(limit=2**31 - 1)
    finally:
        archive.close()
    if owned := [run for run in runs if run.owner]:
        raise RunOwned(
            f"run {owned[0].uuid} is owned by {owned[0].owner}", "wait for it, or end that process"
        )
    if runs and not replace:
        raise UsageError(
            f"the archive of {home} already holds {len(runs)} runs",
            "restore under another EUREKA_HOME, or give --replace",
        )


def dump(url: str, file: Path) -> None:
    """Write the database at `url` to `file`, in Postgres' custom format."""
    postgres("pg_dump", "--format=custom", f"--file={file}", f"--dbname={url}")


def restore(url: str, file: Path) -> None:
    """Load a dump into an empty database, all of it or nothing."""
    options = ("--no-owner", "--single-transaction", "--exit-on-error")
    postgres("pg_restore", *options, f"--dbname={url}", str(file))


def postgres(program: str, *arguments: str) -> None:
    """Run one of Postgres' own programs. Raises PrerequisiteMissing with its last words."""
    command = [str(find_binaries().folder / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PrerequisiteMissing(f"{program} failed: {reason}", "eureka doctor")
