"""Pruning: checkpoints that the settings do not keep lose their files; rows stay and say why.

Called after a step's commit and again when a run is resumed: a crash between the two leaves
checkpoints that should be gone, or files of checkpoints that are marked as gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from eurekaflow.models.checkpoints import surplus
from eurekaflow.models.faultpoints import reach
from eurekaflow.models.rows import CheckpointRow
from eurekaflow.models.states import CheckpointState
from eurekaflow.tasks.session import Session


def prune(s: Session) -> None:
    """Mark first, remove then; a file system that refuses is no reason to end a run.

    A folder that no row names yet stays: it is the next step's, published and not committed.
    """
    rows = s.archive.checkpoints(s.run.id)
    reasons = superfluous(s, rows)
    if reasons:
        s.archive.mark_pruned(s.hold, reasons)
    gone = [r for r in rows if r.state == CheckpointState.PRUNED or r.step in reasons]
    for folder in (*(s.folder / row.path for row in gone), *s.folder.glob("replay-*")):
        if folder.exists():
            reach("prune.before_removal")
            shutil.rmtree(folder, ignore_errors=True)
            reach("prune.after_removal")


def superfluous(s: Session, rows: Sequence[CheckpointRow]) -> dict[int, str]:
    """Kept checkpoints (by step) that the settings no longer keep, and why."""
    best = s.archive.best(s.run.id) if s.config.keep_best else None
    return surplus(
        [row.step for row in rows if row.state == CheckpointState.KEPT],
        last=s.config.keep_checkpoints,
        every=s.config.keep_every,
        best=None if best is None else best.step,
    )
