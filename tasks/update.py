"""Update the policy: beta and advantages per group, one optimizer step, staged files.

A pure function of (weights version t, the archived step), so it may run twice: it always starts
from the committed version t and writes a fresh staging folder.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eurekaflow.models.device_faults import device_fault
from eurekaflow.models.errors import EurekaError, FencedOut
from eurekaflow.models.policy import UpdateReport
from eurekaflow.models.rows import GroupStats
from eurekaflow.models.states import Stage
from eurekaflow.tasks import session
from eurekaflow.tasks.metering import metered
from eurekaflow.tasks.poison import StepStuck
from eurekaflow.tasks.restore import make_resident
from eurekaflow.tasks.retry import stage
from eurekaflow.tasks.session import Session
from eurekaflow.tasks.training import Lesson, learn, untrained

LARGE_ADVANTAGE = 100.0
LARGE_GAP = 1e-2  # half the mean square of trainer - sampler log-probs; bfloat16 gives 4e-4


@stage("update")
def update(run_id: str, step: int) -> None:
    """Train on the step unless that was already staged; `advantage = "none"` trains nothing."""
    s = session.of(run_id)
    if s.stage_reached(step, Stage.UPDATED):
        return
    s.notify("stage", step=step, stage="update")
    started = time.monotonic()
    folder = s.staging_folder(step) if saved(s, step) else None
    with metered(s, step, "update") as meter:
        lesson = learned(s, step, folder)
        base = lesson.tokens if s.config.kl else 0
        meter.tokens(read=base, trained=lesson.tokens)
    staging = None if lesson.report is None else staged(folder, lesson.report)
    s.staged_here = staging["folder"] if staging else ""
    warn_extremes(s, step, lesson.stats)
    warn_gap(s, step, lesson.report)
    s.archive.record_update(
        s.hold,
        step,
        group_stats=lesson.stats,
        metrics={} if lesson.report is None else lesson.report.metrics,
        seconds=time.monotonic() - started,
        staging=staging,
    )


def saved(s: Session, step: int) -> bool:
    """Whether the weights of a step are written down: every n-th step's, and the last planned."""
    return (step + 1) % s.config.checkpoint_every == 0 or step + 1 == s.config.steps


def learned(s: Session, step: int, folder: Path | None) -> Lesson:
    """What the step teaches; nothing, when its update fails twice for the same reason.

    Then the culprit is the step: it is left untrained, the weights stay, and its metrics say why.
    When the step before ended the same way the fault is more likely ours: the first time the step
    raises StepStuck instead.
    """
    for tries_left in (2, 1, 0):
        make_resident(s, step)
        try:
            lesson = learn(s, step, folder)
            s.confirm()
            return lesson
        except FencedOut:
            forget(folder)
            raise
        except Exception as error:
            if isinstance(error, EurekaError) or device_fault(error) or not tries_left:
                raise
            reason = f"update: {type(error).__name__}: {error}"
        s.drop("policy")  # half an update may be in it
        if (times := s.archive.note_failure(s.hold, step, reason)) >= 2:
            forget(folder)
            if times == 2 and failures(s, step - 1, reason) >= 2:
                raise StepStuck(
                    f"two steps running could not be trained, {step} the second ({reason})",
                    f"eureka doctor; eureka resume {s.run.uuid} tries again, then goes on without",
                )
            text = f"the update of step {step} failed twice ({reason}); the step trains nothing"
            s.notify("note", step=step, metrics={"text": text})
            break
    return untrained(s, step)


def failures(s: Session, step: int, reason: str) -> int:
    """How often a step failed for this reason."""
    row = s.archive.step(s.run.id, step)
    return 0 if row is None else int(row.metrics.get("failures", {}).get(reason, 0))


def forget(folder: Path | None) -> None:
    """Remove what was staged: named by no row, and of our epoch."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def staged(folder: Path | None, report: UpdateReport) -> dict[str, Any]:
    """What the archive remembers of a new version; without a folder, its hash alone."""
    name = "" if folder is None else folder.name
    return {"folder": name, "files": report.files, "sha256": report.sha256}


def warn_extremes(s: Session, step: int, stats: Sequence[GroupStats]) -> None:
    largest = max((x.advantage_max or 0.0 for x in stats), default=0.0)
    if largest > LARGE_ADVANTAGE:
        s.notify("note", step=step, metrics={"text": f"an advantage reached {largest:.0f}"})


def warn_gap(s: Session, step: int, report: UpdateReport | None) -> None:
    """Say so when sampler and trainer disagree about the log-probs of the same tokens."""
    gap = 0.0 if report is None else report.metrics.get("logprob_gap_half_mean_square", 0.0)
    if gap > LARGE_GAP:
        text = (
            f"sampler and trainer disagree: half the mean square of their log-probs' difference "
            f"is {gap:.2g} (bfloat16 gives 4e-4)"
        )
        s.notify("note", step=step, metrics={"text": text})
