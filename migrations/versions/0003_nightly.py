# ruff: noqa: E501
"""Revision 0003: schedules, budgets and what each night did."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = """
create table archive.schedules (
    id bigint generated always as identity constraint schedules_pkey primary key,
    name text not null,
    cron text not null,
    timezone text not null,
    plan jsonb default '{}'::jsonb not null,
    paused boolean default false not null,
    revision bigint default 0 not null,
    watched_from timestamptz default now() not null,
    created_at timestamptz default now() not null,
    removed_at timestamptz);
comment on table archive.schedules is 'Nightly schedules: the truth from which Prefect''s deployments are made again';
comment on column archive.schedules.id is 'Number of the row';
comment on column archive.schedules.name is 'What the user calls it; free again once removed';
comment on column archive.schedules.cron is 'When it is due: five fields, or six with seconds';
comment on column archive.schedules.timezone is 'IANA time zone in which the cron line is read';
comment on column archive.schedules.plan is 'What a night does: problem, policy, until, budgets, settings';
comment on column archive.schedules.paused is 'Whether its nights are left out';
comment on column archive.schedules.revision is 'Rises with every change; Prefect''s deployment carries it';
comment on column archive.schedules.watched_from is 'Due times later than this count; the rest is settled';
comment on column archive.schedules.created_at is 'When it was added';
comment on column archive.schedules.removed_at is 'When it was removed; its nights and runs stay';
create unique index schedules_name_key on archive.schedules (name) where removed_at is null;
create table archive.nights (
    id bigint generated always as identity constraint nights_pkey primary key,
    schedule_id bigint not null constraint nights_schedule_id_fkey references archive.schedules (id),
    due_at timestamptz not null,
    kind text not null constraint nights_kind_check check (kind in ('scheduled', 'caught_up', 'by_hand')),
    state text not null constraint nights_state_check check (state in ('running', 'done', 'failed', 'missed')),
    message text default '' not null,
    starts integer default 0 not null,
    flow_run_id text,
    host text default '' not null,
    deadline_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    constraint nights_schedule_id_due_at_key unique (schedule_id, due_at));
comment on table archive.nights is 'One night of a schedule, also one that did not happen';
comment on column archive.nights.id is 'Number of the row';
comment on column archive.nights.schedule_id is 'Schedule';
comment on column archive.nights.due_at is 'When it was due';
comment on column archive.nights.kind is 'scheduled, caught_up or by_hand';
comment on column archive.nights.state is 'State of the night';
comment on column archive.nights.message is 'What the night did, or why it did not start, for people';
comment on column archive.nights.starts is 'How often it was begun';
comment on column archive.nights.flow_run_id is 'Prefect''s flow run id';
comment on column archive.nights.host is 'Machine it ran on';
comment on column archive.nights.deadline_at is 'When it ends at the next stage boundary';
comment on column archive.nights.started_at is 'When it was first begun';
comment on column archive.nights.ended_at is 'When it ended';
alter table archive.ledger add column night_id bigint constraint ledger_night_id_fkey references archive.nights (id);
comment on column archive.ledger.night_id is 'Night, if any';
create index ledger_night_id_key on archive.ledger (night_id) where night_id is not null;
alter table archive.runs add column ended_by text, add column schedule_id bigint,
    add column resumes bigint default 0 not null, add column resumed_step integer;
comment on column archive.runs.ended_by is 'Rule that ended it: budget, target, …';
comment on column archive.runs.schedule_id is 'Nightly schedule that started it';
comment on column archive.runs.resumes is 'Automatic resumes since a step was last committed';
comment on column archive.runs.resumed_step is 'Steps committed at the last of them'
"""


def upgrade() -> None:
    """Add schedules, nights, the night of a spend, and why and how often a run was resumed."""
    for statement in STATEMENTS.split(";\n"):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    """Refuse: attempts are never deleted."""
    raise NotImplementedError("the archive has no way back: restore the backup of db upgrade")
