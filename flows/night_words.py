"""One line about a night: what it did, what it spent, or why it did not happen."""

from __future__ import annotations

from typing import Any

from eurekaflow.flows.diagnosis import amount
from eurekaflow.models.archive import Archive
from eurekaflow.models.cron import zone_named
from eurekaflow.models.machine_lock import holder
from eurekaflow.models.nights import NightRow, ScheduleRow


def as_record(archive: Archive, row: ScheduleRow, night: NightRow) -> dict[str, Any]:
    """A night with its spend, times in the schedule's zone."""
    zone = zone_named(row.timezone)
    state = night.state
    if state == "running" and not holder(archive.url, f"night {night.id}"):
        state = "crashed"
    spent = archive.spent_in_night(night.id)
    return {
        "schedule": row.name,
        "due": night.due_at.astimezone(zone).isoformat(sep=" ", timespec="seconds"),
        "kind": night.kind,
        "state": state,
        "starts": night.starts,
        "message": night.message,
        "attempts": spent.attempts,
        "steps": spent.steps,
        "tokens": int(spent.amount("tokens")),
        "cpu_hours": spent.amount("cpu_hours"),
        "gpu_hours": spent.amount("gpu_hours"),
        "money": spent.money,
    }


def status_line(record: dict[str, Any]) -> str:
    """The record for people."""
    state = record["state"] + (f" after {record['starts']} starts" if record["starts"] > 1 else "")
    kinds = {"caught_up": ", caught up", "by_hand": ", by hand"}
    head = f"{record['schedule']} {record['due']}{kinds.get(record['kind'], '')}: {state}"
    spent = ", ".join(
        f"{amount(kind, record[kind])} {kind.replace('_', ' ')}"
        for kind in ("steps", "attempts", "tokens", "cpu_hours", "gpu_hours", "money")
        if record[kind]
    )
    return "; ".join(filter(None, [head, record["message"], spent]))
