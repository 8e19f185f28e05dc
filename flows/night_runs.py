"""Which run a night works on by its policy: one continued, lengthened, started or restarted."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np

from eurekaflow.flows import launch
from eurekaflow.flows.configure import UNBOUNDED_STEPS, Surroundings, resolve
from eurekaflow.flows.night_plan import Plan
from eurekaflow.models.archive import Archive
from eurekaflow.models.nights import LastRun, NightRow, ScheduleRow
from eurekaflow.models.rows import SeedRow
from eurekaflow.models.states import RunState
from eurekaflow.verifiers.lookup import load

STUCK = ("flat", "entropy", "validity")  # rules after which fresh weights may help


@dataclass(frozen=True)
class Shift:
    """A night under way: whose, where, until when."""

    archive: Archive
    url: str
    here: Surroundings
    row: ScheduleRow
    plan: Plan
    night: NightRow
    faults: list[str] = field(default_factory=list)  # what broke runs tonight, in words

    @property
    def over(self) -> bool:
        """Whether its deadline has passed."""
        end = self.night.deadline_at
        return end is not None and datetime.now(UTC) >= end


def owner(shift: Shift) -> str:
    """As others are told who has the machine."""
    return f"the night of {shift.row.name} on {platform.node()}"


def choose(shift: Shift) -> tuple[UUID | None, str, int | None]:
    """The run to go on with by policy, the verb for it, and a new number of steps if any."""
    policy, last = shift.plan.policy, shift.archive.last_run(shift.row.id)
    if last is None or policy == "start":
        return start(shift), "started", None
    if last.state == RunState.RUNNING:
        return None, f"{short(last.uuid)} is at work elsewhere", None
    if last.state != RunState.FINISHED and last.ended_by != "poison":
        return last.uuid, "continued", None
    if policy == "resume":
        return None, f"nothing to resume: {short(last.uuid)} is {last.state}", None
    if wants_restart(last):
        return restart(shift, last)
    if last.ended_by == "poison":
        return start(shift), "started", None
    if last.ended_by is not None:
        return None, f"nothing to do: {short(last.uuid)} ended by {last.ended_by}", None
    extra = int(resolved(shift, {}).config.steps)
    return last.uuid, "lengthened", int(last.config["steps"]) + extra


def wants_restart(run: LastRun) -> bool:
    """Whether a run is stuck and its configuration asks for fresh weights then."""
    stuck = run.state == RunState.FINISHED and run.ended_by in STUCK
    return stuck and run.config.get("when_stuck") == "restart"


def start(shift: Shift, **changed: object) -> UUID:
    """A new run of the schedule, with the next seed."""
    before = shift.archive.last_run(shift.row.id)
    seed = shift.plan.settings.get("seed")
    if before is not None:
        changed.setdefault("seed", int(before.config["seed"]) + 1)
    elif seed is not None:
        changed.setdefault("seed", seed)
    config = resolved(shift, changed).config
    run = launch.create(shift.archive, config)
    shift.archive.assign_run(run.uuid, shift.row.id)
    return run.uuid


def resolved(shift: Shift, changed: dict[str, object]) -> Any:
    """The configuration of a new run: the plan's settings over environment and presets.

    Where the plan bounds neither steps nor minutes, only the night does.
    """
    settings: dict[str, object] = {**shift.plan.settings, **changed}
    if "steps" not in settings and "minutes" not in settings:
        settings["steps"] = UNBOUNDED_STEPS
    return resolve(shift.plan.problem, overrides=settings)


def restart(shift: Shift, run: LastRun) -> tuple[UUID | None, str, int | None]:
    """A new run with fresh weights whose seeds are a stuck one's best answers, as `choose`."""
    made = start(shift)
    archive = shift.archive
    row = archive.run(made)
    stuck = archive.run(run.uuid).id
    nodes = archive.nodes(stuck)
    best = nodes.ids[np.lexsort((nodes.seqs, -nodes.values))][: int(row.config["groups"])]
    answers = [archive.attempt(int(i)) for i in best]
    given = load(row.config["problem"]).same_by == "construction"
    seeds = [
        SeedRow(
            slot=slot,
            value=float(answer.value or 0.0),
            program=archive.program(answer.id) or "",
            construction=archive.construction(answer.id) if given else None,
        )
        for slot, answer in enumerate(answers)
    ]
    with archive.hold(row.id, owner=owner(shift)) as hold:
        archive.add_seeds(hold, seeds, taken_from=stuck)
        hold.release(RunState.CREATED)
    return made, f"restarted {short(run.uuid)} with fresh weights as", None


def short(run: UUID) -> str:
    """The beginning of a run's id, enough to name it."""
    return str(run)[:8]
