"""Update the policy: beta and advantages per group, one optimizer step, staged files.

A pure function of (weights version t, the archived step), so it may run twice: it always starts
from the committed version t and writes a fresh staging folder.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eurekaflow.models.entropic import advantages, constant, solve_beta
from eurekaflow.models.policy import TrainedGroup, TrainedResponse, UpdateReport, UpdateSettings
from eurekaflow.models.rows import GroupBatch, GroupStats
from eurekaflow.models.settings import RunConfig
from eurekaflow.models.states import Stage
from eurekaflow.tasks import session
from eurekaflow.tasks.retry import stage
from eurekaflow.tasks.session import Session

SMALLEST_ENTROPIC_GROUP = 4  # with fewer scored attempts the leave-one-out weights are degenerate
LARGE_ADVANTAGE = 100.0


@stage("update")
def update(run_id: str, step: int) -> None:
    """Train on the step unless that was already staged; `advantage = "none"` trains nothing."""
    s = session.of(run_id)
    if s.stage_reached(step, Stage.UPDATED):
        return
    s.notify("stage", step=step, stage="update")
    started = time.monotonic()
    batch = s.archive.training_batch(s.run.id, step)
    signals = [signal(group, s.config) for group in batch]
    warn_extremes(s, step, signals)
    report, staging = UpdateReport(), None
    if s.config.advantage != "none":
        folder = s.staging_folder(step)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        report = train(s, step, batch, signals, folder)
        staging = {"folder": folder.name, "files": report.files, "sha256": report.sha256}
    s.archive.record_update(
        s.hold,
        step,
        group_stats=[x.stats for x in signals],
        metrics=report.metrics,
        seconds=time.monotonic() - started,
        staging=staging,
    )


@dataclass(frozen=True)
class Signal:
    """What a group teaches."""

    advantages: np.ndarray[tuple[int], np.dtype[np.float64]]
    stats: GroupStats


def signal(group: GroupBatch, config: RunConfig) -> Signal:
    """Beta, achieved KL and advantages of one group, in float64, before any filtering."""
    rewards = np.array([a.reward for a in group.attempts], dtype=np.float64)
    if rewards.size == 0:
        return Signal(rewards, GroupStats(group_index=group.group_index))
    beta, reached = solve_beta(rewards)
    if config.advantage == "entropic":
        beta = config.adv_beta
    values = advantages(
        rewards,
        estimator=config.advantage,
        beta=beta if config.advantage.startswith("entropic") else None,
    )
    if config.adv_clip is not None:
        values = np.minimum(values, config.adv_clip)
    entropic = config.advantage.startswith("entropic")
    trained = not constant(rewards) and config.advantage != "none"
    stats = GroupStats(
        group_index=group.group_index,
        beta=beta if entropic else None,
        kl=reached if config.advantage == "entropic_adaptive" else None,
        constant=constant(rewards),
        trained=trained and (not entropic or rewards.size >= SMALLEST_ENTROPIC_GROUP),
        advantage_min=float(values.min()),
        advantage_mean=float(values.mean()),
        advantage_max=float(values.max()),
    )
    return Signal(np.asarray(values), stats)


def train(
    s: Session, step: int, batch: list[GroupBatch], signals: list[Signal], staged: Path
) -> UpdateReport:
    """One optimizer step on the groups that teach; without any, on the first with the KL alone."""
    chosen = [(g, x) for g, x in zip(batch, signals, strict=True) if x.stats.trained]
    chosen = chosen or [(batch[0], Signal(np.zeros(len(batch[0].attempts)), signals[0].stats))]
    s.make_resident(step)
    groups = [
        TrainedGroup(
            prompt_ids=tuple(g.prompt_ids),
            responses=tuple(
                TrainedResponse(
                    token_ids=a.token_ids, logprobs=a.logprobs, mask=a.mask, advantage=float(v)
                )
                for a, v in zip(g.attempts, x.advantages, strict=True)
            ),
        )
        for g, x in chosen
    ]
    return s.policy.update(groups, update_settings(s.config), staged)


def update_settings(config: RunConfig) -> UpdateSettings:
    return UpdateSettings(
        lr=config.lr,
        beta1=config.adam_beta1,
        beta2=config.adam_beta2,
        eps=config.adam_eps,
        kl=config.kl,
        temperature=config.temperature,
        substeps=config.substeps,
        micro_batch=config.micro_batch,
    )


def warn_extremes(s: Session, step: int, signals: list[Signal]) -> None:
    largest = max((x.stats.advantage_max or 0.0 for x in signals), default=0.0)
    if largest > LARGE_ADVANTAGE:
        s.notify("note", step=step, metrics={"text": f"an advantage reached {largest:.0f}"})
