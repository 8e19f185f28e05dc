"""Checkpoint a step: publish the staged weights, then commit the step, then prune old weights.

Files first (re-hash, rename, fsync of the folder), row last: weights exist only if a checkpoint row
names them. A crash between the two leaves a folder nobody names, which the next try replaces.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from eurekaflow.models.checkpoints import publish
from eurekaflow.models.policy import Version
from eurekaflow.models.rows import CheckpointRow, StagedUpdate
from eurekaflow.tasks import session
from eurekaflow.tasks.retry import stage
from eurekaflow.tasks.session import Session


@stage("checkpoint")
def checkpoint(run_id: str, step: int) -> None:
    """Commit the step with the weights it produced; a committed step is left alone."""
    s = session.of(run_id)
    if s.archive.stage_reached(s.run.id, step, "committed"):
        return
    started = time.monotonic()
    staged = s.archive.staged_update(s.run.id, step)
    row = None if staged is None else named(s, step, staged)
    s.archive.commit_step(s.hold, step, row, seconds=time.monotonic() - started)
    if row is not None:
        s.policy.ensure(
            Version(number=row.version, folder=s.folder / row.path, sha256=row.sha256)
        )
        prune(s)


def named(s: Session, step: int, staged: StagedUpdate) -> CheckpointRow:
    """The staged folder under its final name, as the row that will name it."""
    path = Path("checkpoints") / f"{step + 1:05d}"
    size = publish(s.folder / staged.folder, s.folder / path, staged.files)
    return CheckpointRow(
        step=step,
        version=step + 1,
        path=str(path),
        sha256=staged.sha256,
        files=dict(staged.files),
        size_bytes=size,
    )


def prune(s: Session) -> None:
    """Delete all but the newest checkpoints; the rows stay and say so."""
    kept = [r for r in s.archive.checkpoints(s.run.id) if not r.pruned]
    for row in sorted(kept, key=lambda r: r.version)[: -s.config.keep_checkpoints]:
        s.archive.mark_pruned(s.hold, row.version)
        shutil.rmtree(s.folder / row.path, ignore_errors=True)
