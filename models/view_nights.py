"""What the public views select of unattended work: every night with what it spent."""

from __future__ import annotations

from eurekaflow.models.view_definitions import View

NIGHTS = View(
    "nights",
    "One row per night of a schedule, missed ones included",
    {
        "night": "Night, its number",
        "schedule": "Schedule, its name",
        "problem": "Canonical problem id",
        "due_at": "When it was due",
        "kind": "scheduled, caught_up or by_hand",
        "state": "running (or crashed), done, failed or missed",
        "message": "What it did, or why it did not start",
        "starts": "How often it was begun",
        "host": "Machine it ran on",
        "started_at": "When it was first begun",
        "ended_at": "When it ended",
        "runs": "Runs it spent on, as run_id",
        "tokens": "Tokens in, out and trained",
        "cpu_s": "CPU seconds",
        "gpu_s": "GPU seconds",
        "money": "Money, by the runs' prices",
    },
    """
    select n.id, s.name, s.plan->>'problem', n.due_at, n.kind, n.state, n.message, n.starts,
        n.host, n.started_at, n.ended_at, l.runs, l.tokens, l.cpu_s, l.gpu_s, l.money
    from archive.nights n join archive.schedules s on s.id = n.schedule_id
    cross join lateral (
        select coalesce(array_agg(distinct run_id), '{}') as runs,
            coalesce(sum(tokens_in + tokens_out + tokens_trained), 0)::bigint as tokens,
            coalesce(sum(cpu_s), 0) as cpu_s, coalesce(sum(gpu_s), 0) as gpu_s,
            coalesce(sum(money), 0) as money
        from archive.ledger where night_id = n.id
    ) l""",
)
