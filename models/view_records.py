"""What the public views of results select: the leaderboard and the claims behind it."""

from __future__ import annotations

from eurekaflow.models.view_definitions import CASES, LOCAL, OF_RUN, OF_SLOT, RUN, View, score

HELD_OUT_CASES = 150  # of a contest's final selection

LEADERBOARD = View(
    "leaderboard",
    "The best of every run beside the published records, best first by rank",
    {
        "problem": "Canonical problem id",
        "rank": "Place within the problem, from 1; equal values share a place. None for a "
        "contest's local cases, which are not those of the published records",
        "holder": "Who: a published holder, or a run",
        "kind": "ours, human, ai or claim (published but not confirmed)",
        "score": "Metric as printed",
        "value": "Metric with sign, higher is better",
        "metric": "What the score is called",
        "source": "Where a record was published",
        "run": "Run, when it is ours",
        "attempt": "Attempt, when it is ours",
        "role": "Why a record is listed: human, previous AI, TTT-Discover or newest",
        "mode": "How it was measured; of ours the newest claim's mode, else training; of a "
        "contest's runs the number of local cases",
        "trust": "verified, or foreign when somebody else's evaluator scored it",
    },
    f"""
    with entry as (
        select p.name, 'run ' || left(r.uuid::text, 8) as holder, 'ours' as kind,
            {score("b.value")} as score, b.value, p.metric, null as source, r.uuid,
            b.id as attempt, null as role, case when {LOCAL} then {CASES} || ' local cases'
                else coalesce((
                    select c.mode from archive.claims c where c.attempt_id = b.id
                    order by c.measured_at desc, c.id desc limit 1), 'training') end as mode,
            p.trust, {LOCAL} as local
        from {RUN} cross join lateral (
            select a.id, a.value from archive.attempts a
            where a.run_id = r.id and a.outcome = 'valid' order by a.value desc, a.seq limit 1
        ) b
        union all
        select p.name, record->>'holder', record->>'kind', (record->>'score')::float8,
            (record->>'score')::float8 * case p.direction when 'min' then -1 else 1 end, p.metric,
            record->>'source', null, null,
            nullif(record->>'role', ''), nullif(record->>'mode', ''), p.trust,
            false
        from (
            select distinct on (name) * from archive.problems order by name, seen_at desc, id desc
        ) p cross join lateral jsonb_array_elements(
            case jsonb_typeof(p.records) when 'array' then p.records else '[]'::jsonb end
        ) record
        where record->>'score' is not null
    )
    select name,
        case when not local then rank() over (partition by name, local order by value desc) end,
        holder, kind, score, value,
        metric, source, uuid, attempt, role, mode, trust
    from entry""",
)

CLAIMS = View(
    "claims",
    "Re-measurements of attempts, newest first: what a reported result rests on",
    {
        **OF_RUN,
        **OF_SLOT,
        "claim": "Claim, its number",
        "mode": "How it was measured: exact, strict, held-out and so on",
        "value": "Value measured, higher is better",
        "score": "Metric as printed",
        "exact": "Score as a fraction p/q, when it was measured exactly",
        "verifier_version": "Version of the verifier",
        "hardware": "Machine of the measurement",
        "message": "Remarks",
        "measured_at": "When it was measured",
    },
    f"""
    select r.uuid, r.id, p.name, a.step, a.group_index, a.attempt_index, a.id, c.id, c.mode,
        c.value, case when c.mode = 'held-out' and {LOCAL} then round(c.value * {HELD_OUT_CASES})
            else {score("c.value")} end, c.exact, c.verifier_version, c.hardware, c.message,
        c.measured_at
    from archive.claims c join archive.attempts a on a.id = c.attempt_id
    join {RUN} on r.id = a.run_id
    order by c.id desc""",
)
