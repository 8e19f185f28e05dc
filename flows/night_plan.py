"""What a schedule's nights do: the plan, its window, and which night is due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from eurekaflow.models import cron
from eurekaflow.models.errors import UsageError
from eurekaflow.models.nights import ScheduleRow

Policy = Literal["resume", "continue", "start"]
Setting = str | int | float | bool | None
LATE = timedelta(minutes=5)  # later than this a night counts as caught up
DUE_TAG = "due"  # of a flow run: the archive decides which night it is
NIGHT_TAG = "night-"  # of a flow run: followed by the number of a night to be begun again
OFF = "nothing served the schedule then: the machine was off, or eureka nightly serve not running"


class Budget(BaseModel):
    """What one night may spend on all its runs together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempts: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, ge=1, description="in, out and trained")
    cpu_hours: float | None = Field(None, gt=0)
    gpu_hours: float | None = Field(None, gt=0)
    money: float | None = Field(None, gt=0, description="by the prices of the configuration")


class Plan(BaseModel):
    """What a night does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    problem: str = Field(description="name of a problem, or path of a problem file")
    policy: Policy = Field("continue", description="after resuming what crashed")
    until: str | None = Field(None, description="time of day at which a night ends: 07:00")
    most_resumes: int = Field(3, ge=0, description="automatic resumes without progress")
    budget: Budget = Field(default_factory=Budget, description="of one night")
    settings: dict[str, Setting] = Field(default_factory=dict, description="of new runs")

    @field_validator("until")
    @classmethod
    def _a_time_of_day(cls, value: str | None) -> str | None:
        if value is not None:
            cron.clock_time(value)
        return value

    @field_validator("settings")
    @classmethod
    def _known_settings(cls, value: dict[str, Setting]) -> dict[str, Setting]:
        from eurekaflow.flows.setting_sources import known

        for name in value:
            known(name, "settings")
        return value

    @property
    def limits(self) -> dict[str, float]:
        """The budgets that are set."""
        return {k: float(v) for k, v in self.budget.model_dump().items() if v is not None}


@dataclass(frozen=True)
class Due:
    """A night to be begun."""

    at: datetime
    kind: str  # scheduled, caught_up or by_hand
    deadline: datetime


def plan_of(values: Mapping[str, Any]) -> Plan:
    """A plan from stored or given values. Raises UsageError naming the field."""
    try:
        return Plan.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "plan"
        message = str(first["msg"]).removeprefix("Value error, ")
        raise UsageError(f"{where}: {message}", "eureka nightly add --help") from None


def deadline(row: ScheduleRow, plan: Plan, due: datetime) -> datetime:
    """When the night that is due then ends: at `until`, or when the next one is due."""
    zone = cron.zone_named(row.timezone)
    following = cron.parse(row.cron).following(due, zone)
    if plan.until is None:
        return following
    return cron.at_clock(due, cron.clock_time(plan.until), zone)


def unsettled(row: ScheduleRow, now: datetime) -> list[datetime]:
    """Due times up to now of which nothing is known, oldest first."""
    zone = cron.zone_named(row.timezone)
    return cron.parse(row.cron).latest(now, zone, since=row.settled_until)


def newest_due(row: ScheduleRow, plan: Plan, now: datetime) -> tuple[Due | None, list[datetime]]:
    """The night to begin now, and those that are missed for good.

    The newest due night is begun late as long as its window is open; older ones are skipped.
    """
    dues = unsettled(row, now)
    if not dues:
        return None, []
    end = deadline(row, plan, dues[-1])
    if end <= now:
        return None, dues
    kind = "caught_up" if now - dues[-1] > LATE else "scheduled"
    return Due(dues[-1], kind, end), dues[:-1]
