"""Checkpoint a step: publish the staged weights, then commit the step, then prune old weights.

Files first (re-hash, rename, fsync of the folder), row last: weights exist only if a checkpoint
row names them. A crash between the two leaves a folder nobody names, which the next try replaces.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eurekaflow.models.checkpoints import publish
from eurekaflow.models.policy import Version
from eurekaflow.models.rows import CheckpointRow
from eurekaflow.models.states import CheckpointState, Stage
from eurekaflow.tasks import session
from eurekaflow.tasks.retry import stage
from eurekaflow.tasks.session import Session


@stage("checkpoint")
def checkpoint(run_id: str, step: int) -> None:
    """Commit the step with the weights it produced; a committed step is left alone."""
    s = session.of(run_id)
    if s.stage_reached(step, Stage.COMMITTED):
        return
    with s.timed(step, "checkpoint"):
        row = s.archive.step(s.run.id, step)
        staging = None if row is None else row.staging
        produced = None if staging is None else named(s, step, staging)
        s.archive.commit_step(s.hold, step, produced)
        if produced is not None:
            folder = s.folder / produced.path
            s.policy.ensure(
                Version(number=produced.version, folder=folder, sha256=produced.sha256)
            )
            prune(s)


def named(s: Session, step: int, staging: Mapping[str, Any]) -> CheckpointRow:
    """The staged folder under its final name, as the row that will name it."""
    path = Path("checkpoints") / f"{step + 1:05d}"
    size = publish(s.folder / staging["folder"], s.folder / path, staging["files"])
    return CheckpointRow(
        step=step,
        version=step + 1,
        path=str(path),
        sha256=staging["sha256"],
        files=dict(staging["files"]),
        size_bytes=size,
    )


def prune(s: Session) -> None:
    """Delete all but the newest checkpoints; the rows stay and say so."""
    kept = [r for r in s.archive.checkpoints(s.run.id) if r.state == CheckpointState.KEPT]
    old = sorted(kept, key=lambda r: r.step)[: -s.config.keep_checkpoints]
    s.archive.mark_pruned(s.hold, [row.step for row in old])
    for row in old:
        shutil.rmtree(s.folder / row.path, ignore_errors=True)
