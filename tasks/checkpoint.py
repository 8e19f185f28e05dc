"""Checkpoint a step: publish the staged weights, then commit the step, then prune old weights.

Files first (re-hash, rename, fsync of the folder), row last: weights exist only if a checkpoint
row names them. A crash between the two leaves a folder nobody names, which the next try finds.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from eurekaflow.models.checkpoints import final_name, publish
from eurekaflow.models.errors import CheckpointDamaged
from eurekaflow.models.rows import CheckpointRow
from eurekaflow.models.states import CheckpointState, Stage
from eurekaflow.tasks import session
from eurekaflow.tasks.metering import metered
from eurekaflow.tasks.prune import prune
from eurekaflow.tasks.restore import make_resident, newest, repeat, tell, version
from eurekaflow.tasks.retry import stage
from eurekaflow.tasks.session import Session


@stage("checkpoint")
def checkpoint(run_id: str, step: int) -> None:
    """Commit the step with the weights it produced; a committed step is left alone."""
    s = session.of(run_id)
    if s.stage_reached(step, Stage.COMMITTED):
        return
    with s.timed(step, "checkpoint"), metered(s, step, "checkpoint"):
        row = s.archive.step(s.run.id, step)
        staging = None if row is None else row.staging
        produced = None if staging is None else named(s, step, staging)
        s.archive.commit_step(s.hold, step, produced)
        if produced is not None:
            made = version(s, produced)
            if produced.state == CheckpointState.KEPT or s.policy.holds(made):
                s.policy.ensure(made)
            prune(s)


def keep(s: Session) -> None:
    """Write the newest version where it is in memory alone, as a run ends.

    A run that ends by itself then leaves no update to be replayed. A disk without room for that is
    told, and no reason to fail: the updates can be replayed.
    """
    row = newest(s, s.archive.progress(s.run.id).step)
    if row is None or row.state == CheckpointState.KEPT or "policy" not in vars(s):
        return
    if not s.policy.holds(version(s, row)):
        return
    staging = s.replay_folder(row.step)
    path = final_name(staging.name)
    s.confirm()
    shutil.rmtree(staging, ignore_errors=True)
    try:
        files = s.policy.save(staging)
        size = publish(staging, s.folder / path, files, confirm=s.confirm, fresh=True)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        tell(s, row.step, f"its weights could not be written ({error}); a resume replays them")
        return
    made = replace(row, path=str(path), files=files, size_bytes=size, reason="saved at the end")
    s.archive.restore_checkpoint(s.hold, replace(made, state=CheckpointState.KEPT))
    prune(s)


def named(s: Session, step: int, staging: Mapping[str, Any]) -> CheckpointRow:
    """The staged folder under its final name, as the row that will name it.

    A version that is not saved is one whose files were pruned from the start.
    """
    files, sha256, reason = dict(staging["files"]), staging["sha256"], ""
    number = step + 1 - s.run.policy_from
    if not staging["folder"]:
        return CheckpointRow(
            step=step,
            version=number,
            path="",
            sha256=sha256,
            state=CheckpointState.PRUNED,
            reason=f"not saved: checkpoint_every is {s.config.checkpoint_every}",
        )
    path = final_name(staging["folder"])
    try:
        fresh = s.staged_here == staging["folder"]
        staged, target = s.folder / staging["folder"], s.folder / path
        size = publish(staged, target, files, confirm=s.confirm, fresh=fresh)
    except CheckpointDamaged as damage:
        tell(s, step, f"the staged weights are damaged: {damage.message}; the update is repeated")
        make_resident(s, step)
        report = repeat(s, step, s.replay_folder(step))
        if report.sha256 != sha256:
            tell(s, step, "the repeated update is equivalent to the first, not identical")
        files, sha256, reason = dict(report.files), report.sha256, "its update was repeated"
        path = final_name(s.replay_folder(step).name)
        size = publish(s.replay_folder(step), s.folder / path, files, confirm=s.confirm)
    return CheckpointRow(
        step=step,
        version=number,
        path=str(path),
        sha256=sha256,
        files=files,
        size_bytes=size,
        reason=reason,
    )
