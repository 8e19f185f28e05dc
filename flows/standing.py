"""Where a stopped run stands: what survived, what continuing redoes, and how far it is to go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eurekaflow.flows.configure import UNBOUNDED_STEPS
from eurekaflow.models.errors import UsageError
from eurekaflow.models.rows import Progress, RunRow
from eurekaflow.models.settings import RunConfig
from eurekaflow.tasks.restore import Weights, find, in_words
from eurekaflow.tasks.session import Session


@dataclass(frozen=True, kw_only=True)
class Goals:
    """How a run is continued otherwise than it was begun."""

    steps: int | None = None  # new total; given alone, no time limit applies
    minutes: float | None = None  # new total run time; given alone, no step limit applies
    fresh_policy: bool = False  # the same tree, new weights
    model: str | None = None  # of the fresh policy


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a run has, and what is missing of its unfinished step."""

    steps: int  # committed
    attempts: int  # with a response
    progress: Progress
    weights: Weights
    unsaved: bool  # the unfinished step has trained weights that are in no file


def prepare(s: Session, goals: Goals | None) -> None:
    """Apply the goals to an owned run, then tell what survived and what will be redone."""
    adjust(s, goals or Goals())
    for line in lines(standing(s)):
        s.notify("note", metrics={"text": line})


def adjust(s: Session, goals: Goals) -> None:
    """Set new bounds, and begin a fresh policy where it is wanted. Raises UsageError."""
    if new := possible(s.run, goals):
        s.archive.reconfigure(s.hold, **new)
    if goals.fresh_policy:
        changed = {} if goals.model is None else {"model": goals.model}
        first = s.archive.begin_policy(s.hold, changed)
        text = f"a fresh policy ({goals.model or s.config.model}) is trained from step {first} on"
        s.notify("note", metrics={"text": text})
    s.reload()


def possible(run: RunRow, goals: Goals | None) -> dict[str, Any]:
    """The new bounds of a run. Raises UsageError for goals that cannot be."""
    if goals is None:
        return {}
    if goals.model is not None and not goals.fresh_policy:
        raise UsageError("another model means other weights", "add --fresh-policy")
    new = bounds(goals.steps, goals.minutes)
    if new:
        checked({**run.config, **new})
    return new


def bounds(steps: int | None, minutes: float | None) -> dict[str, Any]:
    """The settings that say how far a run goes; a bound given alone is the only one."""
    if steps is None and minutes is None:
        return {}
    if steps is None:
        return {"minutes": minutes, "steps": UNBOUNDED_STEPS, "min_steps": 1}
    return {"steps": steps, "minutes": minutes}


def checked(settings: Mapping[str, Any]) -> RunConfig:
    """A whole configuration. Raises UsageError naming the setting that cannot be."""
    from pydantic import ValidationError

    try:
        return RunConfig.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UsageError(f"{name}: {first['msg']}", "eureka run PROBLEM --dry-run") from None


def standing(s: Session) -> Standing:
    """Where the run stands, its checkpoints read and compared with their hashes."""
    progress = s.archive.progress(s.run.id)
    row = s.archive.step(s.run.id, progress.step)
    staging = None if row is None else row.staging
    totals = s.archive.totals(s.run.id)
    return Standing(
        steps=totals.steps,
        attempts=totals.attempts - sum(map(len, progress.missing.values())),
        progress=progress,
        weights=find(s, progress.step),
        unsaved=staging is not None and not staging["folder"],
    )


def lines(found: Standing) -> Iterator[str]:
    """What survived and what will be redone, for people; nothing for a run without a step."""
    at = found.progress
    if at.step == 0 and at.stage is None:
        return
    yield f"survived: {found.steps} steps, {found.attempts} attempts, {weights(found.weights)}"
    yield from found.weights.damage
    if found.weights.replayed:
        yield f"redone: {in_words(found.weights)}"
    if found.unsaved:
        yield f"redone: the update of step {at.step} is replayed too: its weights are in no file"
    if at.stage is None:
        yield f"continues with step {at.step}"
    else:
        yield f"continues with step {at.step}, which is {at.stage}: {open_work(at)}"


def weights(found: Weights) -> str:
    """The weights a run goes on from."""
    if found.base is None:
        return "weights of version 0"
    return f"weights of step {found.base.step} (version {found.base.version}, every hash right)"


def open_work(at: Progress) -> str:
    """What is missing of an unfinished step."""
    missing = "; ".join(
        f"group {group}: {', '.join(map(str, slots))}" for group, slots in at.missing.items()
    )
    count = sum(map(len, at.missing.values()))
    parts = [
        f"{count} responses are sampled again ({missing})" if count else "",
        f"{at.unverified} responses are verified again" if at.unverified else "",
    ]
    return " and ".join(part for part in parts if part) or "no response and no verdict is missing"
