"""What the public views select: programs for search, what was pruned."""

from __future__ import annotations

from eurekaflow.models.view_definitions import OF_RUN, RUN, View

PROGRAMS = View(
    "programs",
    "Every distinct program once, whatever run it is from; searched with like, ilike or ~",
    {
        "program_hash": "Hash of the program",
        "program": "The program",
        "attempts": "Attempts with this program, seeds included",
        "valid": "Valid ones among them",
        "runs": "Runs that had it",
        "first_attempt": "The first of them",
        "best_value": "Highest value; none when it never was valid",
    },
    """
    select b.hash, b.content, found.attempts, found.valid, found.runs, found.first_attempt,
        found.best_value
    from archive.bodies b cross join lateral (
        select count(*) as attempts, count(*) filter (where a.outcome = 'valid') as valid,
            count(distinct a.run_id) as runs, min(a.id) as first_attempt,
            max(a.value) as best_value
        from archive.attempts a where a.program_hash = b.hash
    ) found
    where b.program and b.pruned_at is null and found.attempts > 0""",
)

PRUNINGS = View(
    "prunings",
    "What was dropped of runs to save space: tokens and contents, never attempts",
    {
        **OF_RUN,
        "until_step": "Last step whose contents were dropped",
        "tokens_until": "Last step whose tokens were dropped, -1 for none",
        "tokens": "Attempts whose tokens were dropped",
        "bodies": "Contents that were dropped",
        "bytes": "Bytes they took, as stored",
        "policy": "What was asked for",
        "pruned_at": "When it was done",
    },
    f"""
    select r.uuid, r.id, p.name, d.until_step, d.tokens_until, d.tokens, d.bodies, d.bytes,
        d.policy, d.pruned_at
    from {RUN} join archive.prunings d on d.run_id = r.id""",
)

CONTENTS = (PROGRAMS, PRUNINGS)
