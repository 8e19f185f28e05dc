"""Pruning: checkpoints that the settings do not keep lose their files; rows stay and say why.

Called after a step's commit and again when a run is resumed: a crash between the two leaves
checkpoints that should be gone, files of checkpoints that are marked as gone, and folders that an
older owner was still writing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from eurekaflow.models.checkpoints import surplus
from eurekaflow.models.faultpoints import reach
from eurekaflow.models.rows import CheckpointRow
from eurekaflow.models.states import CheckpointState
from eurekaflow.tasks.session import Session


def prune(s: Session) -> None:
    """Mark first, remove then; a file system that refuses is no reason to end a run."""
    rows = s.archive.checkpoints(s.run.id)
    reasons = superfluous(s, rows)
    if reasons:
        s.archive.mark_pruned(s.hold, reasons)
    kept = {r.path for r in rows if r.state == CheckpointState.KEPT and r.step not in reasons}
    for folder in list(leftovers(s, kept)):
        s.confirm()
        reach("prune.before_removal")
        shutil.rmtree(folder, ignore_errors=True)
        reach("prune.after_removal")


def leftovers(s: Session, kept: set[str]) -> Iterator[Path]:
    """Folders that nothing needs: of committed steps what no kept row names, and old staging.

    What the open step has staged or published stays, though no row of a checkpoint names it yet.
    """
    step = s.archive.progress(s.run.id).step
    row = s.archive.step(s.run.id, step)
    staged = (row.staging or {}).get("folder") if row is not None else None
    for folder in sorted(s.folder.glob("checkpoints/*")):
        if 1 <= version_of(folder) <= step and str(folder.relative_to(s.folder)) not in kept:
            yield folder
    for folder in sorted((*s.folder.glob("staging-*"), *s.folder.glob("replay-*"))):
        if folder.name != staged:
            yield folder


def version_of(folder: Path) -> int:
    """The number in a checkpoint's name, one more than its step; 0 for another folder."""
    digits = folder.name.split("-")[0]
    return int(digits) if digits.isdigit() else 0


def superfluous(s: Session, rows: Sequence[CheckpointRow]) -> dict[int, str]:
    """Kept checkpoints (by step) that the settings no longer keep, and why."""
    best = s.archive.best(s.run.id) if s.config.keep_best else None
    return surplus(
        [row.step for row in rows if row.state == CheckpointState.KEPT],
        last=s.config.keep_checkpoints,
        every=s.config.keep_every,
        best=None if best is None else best.step,
    )
