"""The state machines of runs, steps and attempts: every value names the transition into it."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """Where a run is. `hold` may take a run out of any state but never out of a living owner."""

    CREATED = "created"  # add_run
    RUNNING = "running"  # any state -> running, by hold; without a lease: its owner crashed
    PAUSED = "paused"  # running -> paused, by release: interrupted, its work saved
    FINISHED = "finished"  # running -> finished, by finish: the budget ended
    FAILED = "failed"  # running -> failed, by finish: an error that a retry did not cure


class Stage(StrEnum):
    """How far a step got. Stages are reached in this order and never left backwards."""

    PLANNED = "planned"  # plan: groups and reserved attempts exist
    SAMPLED = "sampled"  # planned -> sampled, by stage_done("sample")
    VERIFIED = "verified"  # sampled -> verified, by stage_done("verify")
    ARCHIVED = (
        "archived"  # verified -> archived, by settle: counters and eligibility are up to date
    )
    UPDATED = "updated"  # archived -> updated, by record_update: new weights are staged
    COMMITTED = "committed"  # archived or updated -> committed, by commit_step


class AttemptState(StrEnum):
    """Where an attempt is. Outcome and texts never change once they are there."""

    PLANNED = "planned"  # plan: reserved with its sequence number
    SAMPLED = "sampled"  # planned -> sampled, by store_responses
    VERIFIED = "verified"  # sampled -> verified, by store_verdicts; seeds start here
    SETTLED = "settled"  # verified -> settled, by settle: it counts in the tree
    LOST = "lost"  # planned or sampled -> lost, by abandon: infrastructure gave it no verdict


class CheckpointState(StrEnum):
    """Whether a checkpoint's files are meant to exist."""

    KEPT = "kept"  # commit_step; pruned -> kept, by restore_checkpoint
    PRUNED = "pruned"  # kept -> pruned, by mark_pruned; what is not saved, or copied, starts here


class NightState(StrEnum):
    """Where a night of a schedule is."""

    RUNNING = "running"  # begin_night; without its machine lock: crashed, to be begun again
    DONE = "done"  # running -> done, by end_night
    FAILED = "failed"  # running -> failed, by end_night: it could not start, or broke
    MISSED = "missed"  # add_missed: nothing was there to run it and its window had closed


# The transitions in the words of the columns' comments.
RUN_TRANSITIONS = (
    "created (add_run) -> running (hold, from any state; without a lease its owner crashed) -> "
    "paused (release: interrupted, saved), finished (the budget ended) or failed (an error that "
    "no retry cured)"
)
STEP_TRANSITIONS = (
    "planned -> sampled -> verified -> archived (settled into the tree) -> updated (new weights "
    "are staged; left out where nothing is trained) -> committed; never backwards"
)
ATTEMPT_TRANSITIONS = (
    "planned (reserved with its number) -> sampled (response stored) -> verified (verdict stored; "
    "seeds start here) -> settled (counts in the tree); planned or sampled -> lost "
    "(infrastructure gave it no verdict)"
)

STAGE_OF = {
    "plan": Stage.PLANNED,
    "sample": Stage.SAMPLED,
    "verify": Stage.VERIFIED,
    "archive": Stage.ARCHIVED,
    "update": Stage.UPDATED,
    "checkpoint": Stage.COMMITTED,
}
STAGES = tuple(Stage)
OUTCOMES = (
    "seed",
    "valid",
    "unparseable",
    "raised",
    "timeout",
    "memory",
    "killed",
    "no_result",
    "too_large",
    "invalid",
    "exploit",
)


def reached(stage: str, goal: Stage) -> bool:
    """Whether a step at `stage` has passed or reached `goal`."""
    return STAGES.index(Stage(stage)) >= STAGES.index(goal)
