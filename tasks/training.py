"""What a step teaches: advantages per group and one optimizer step, from stored rows alone.

A pure function of (resident weights, the archived step, its settings): an update, its repetition
after a crash and the replay of a lost checkpoint are the same call.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eurekaflow.models.entropic import advantages, constant, solve_beta
from eurekaflow.models.faultpoints import reach
from eurekaflow.models.policy import TrainedGroup, TrainedResponse, UpdateReport, UpdateSettings
from eurekaflow.models.rows import GroupBatch, GroupStats
from eurekaflow.models.settings import RunConfig
from eurekaflow.tasks.session import Session

SMALLEST_ENTROPIC_GROUP = 4  # with fewer scored attempts the leave-one-out weights are degenerate


@dataclass(frozen=True)
class Signal:
    """What a group teaches."""

    advantages: np.ndarray[tuple[int], np.dtype[np.float64]]
    stats: GroupStats


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a step taught: statistics of every group, and the update when there was one."""

    stats: list[GroupStats]
    report: UpdateReport | None = None
    tokens: int = 0  # of prompts and responses trained on


def learn(s: Session, step: int, folder: Path | None) -> Lesson:
    """Train the resident weights on an archived step and stage the files of the next version.

    Without a folder the next version is in memory only.

    No update happens where the settings say so, where an older policy sampled the step, or where
    no attempt has a reward.
    """
    config = s.config_of(step)
    batch = s.archive.training_batch(s.run.id, step)
    signals = [signal(group, config) for group in batch]
    stats = [x.stats for x in signals]
    sampled_by_it = step >= s.run.policy_from
    if config.advantage == "none" or not sampled_by_it or not any(g.attempts for g in batch):
        return Lesson(stats=stats)
    s.confirm()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier try by this owner
        folder.mkdir(parents=True)
        reach("update.empty_staging")
    groups = lessons(batch, signals)
    tokens = sum(len(g.prompt_ids) + len(r.token_ids) for g in groups for r in g.responses)
    report = s.policy.update(groups, update_settings(config), folder)
    return Lesson(stats=stats, report=report, tokens=tokens)


def untrained(s: Session, step: int) -> Lesson:
    """The statistics of a step that is left untrained."""
    config = s.config_of(step)
    found = [signal(group, config).stats for group in s.archive.training_batch(s.run.id, step)]
    return Lesson(stats=[replace(stats, trained=False) for stats in found])


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


def lessons(batch: list[GroupBatch], signals: list[Signal]) -> list[TrainedGroup]:
    """The groups that teach; without any, the first with nothing but the KL."""
    chosen = [(g, x) for g, x in zip(batch, signals, strict=True) if x.stats.trained]
    first = next(i for i, g in enumerate(batch) if g.attempts)
    zeros = np.zeros(len(batch[first].attempts))
    chosen = chosen or [(batch[first], Signal(zeros, signals[first].stats))]
    return [
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
        micro_tokens=config.micro_tokens,
        checkpointing=config.checkpointing,
    )
