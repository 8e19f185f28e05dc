"""The tables of unattended work: schedules, and what each of their nights did."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, Table, Text, UniqueConstraint, text

from eurekaflow.models.columns import (
    column,
    count,
    document,
    flag,
    identity,
    metadata,
    one_of,
    time,
    words,
)
from eurekaflow.models.states import NightState

schedules = Table(
    "schedules",
    metadata,
    identity(),
    column("name", Text, comment="What the user calls it; free again once removed"),
    column("cron", Text, comment="When it is due: five fields, or six with seconds"),
    column("timezone", Text, comment="IANA time zone in which the cron line is read"),
    document("plan", "What a night does: problem, policy, until, budgets, settings"),
    flag("paused", "Whether its nights are left out"),
    count("revision", "Rises with every change; Prefect's deployment carries it"),
    time("watched_from", "Due times later than this count; the rest is settled", now=True),
    time("created_at", "When it was added", now=True),
    time("removed_at", "When it was removed; its nights and runs stay"),
    Index("schedules_name_key", "name", unique=True, postgresql_where=text("removed_at is null")),
    comment="Nightly schedules: the truth from which Prefect's deployments are made again",
)

nights = Table(
    "nights",
    metadata,
    identity(),
    column("schedule_id", BigInteger, ForeignKey("archive.schedules.id"), comment="Schedule"),
    column("due_at", schedules.c.created_at.type, comment="When it was due"),
    column("kind", Text, comment="scheduled, caught_up or by_hand"),
    column("state", Text, comment="State of the night"),
    words("message", "What the night did, or why it did not start, for people"),
    column("starts", Integer, server_default=text("0"), comment="How often it was begun"),
    column("flow_run_id", Text, nullable=True, comment="Prefect's flow run id"),
    words("host", "Machine it ran on"),
    time("deadline_at", "When it ends at the next stage boundary"),
    time("started_at", "When it was first begun"),
    time("ended_at", "When it ended"),
    UniqueConstraint("schedule_id", "due_at"),
    one_of("kind", ("scheduled", "caught_up", "by_hand")),
    one_of("state", NightState),
    comment="One night of a schedule, also one that did not happen",
)
