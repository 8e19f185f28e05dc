"""What the public views select: the tree, improvements, distributions, spend."""

from __future__ import annotations

from eurekaflow.models.view_definitions import OF_RUN, OF_SLOT, RUN, VISITS, View, score
from eurekaflow.models.view_records import CLAIMS, LEADERBOARD

BEST_ATTEMPTS = View(
    "best_attempts",
    "Each run's improvements in order: valid attempts better than every valid one before",
    {
        **OF_RUN,
        **OF_SLOT,
        "seq": "Archive sequence number",
        "value": "Metric with sign, higher is better",
        "score": "Metric as printed",
        "gain": "Value gained over the best before; none for the first",
        "verified_at": "When the verdict was stored",
    },
    f"""
    select uuid, id, name, step, group_index, attempt_index, attempt, seq, value, score,
        value - best_before, verified_at
    from (
        select r.uuid, r.id, p.name, a.step, a.group_index, a.attempt_index, a.id as attempt,
            a.seq, a.value, {score("a.value")} as score, a.verified_at,
            max(a.value) over (partition by r.uuid, r.id, p.name order by a.seq
                rows between unbounded preceding and 1 preceding) as best_before
        from {RUN} join archive.attempts a on a.run_id = r.id
        where a.outcome = 'valid'
    ) valid
    where best_before is null or value > best_before""",
)

RUN_PROGRESS = View(
    "run_progress",
    "One row per step: what it gave and what the run had reached by then",
    {
        **OF_RUN,
        "step": "Index of the step, from 0",
        "stage": "Stage reached",
        "planned": "Attempts planned",
        "sampled": "Attempts with a response",
        "verified": "Attempts with a verdict",
        "valid": "Valid attempts",
        "valid_fraction": "Valid attempts over attempts with a verdict",
        "reward_mean": "Mean reward over attempts with a verdict",
        "value": "Best value of the step",
        "score": "Best score of the step",
        "best_value": "Best value of the run so far",
        "best_score": "Best score of the run so far",
        "metrics": "Everything measured in the step",
        "seconds": "Seconds by stage",
        "committed_at": "When the step was committed",
    },
    f"""
    select r.uuid, r.id, p.name, s.step, s.stage, c.planned, c.sampled, c.verified, c.valid,
        c.valid::float8 / nullif(c.verified, 0), c.reward_mean, c.best, {score("c.best")},
        max(c.best) over so_far, {score("max(c.best) over so_far")}, s.metrics, s.seconds,
        s.committed_at
    from {RUN} join archive.steps s on s.run_id = r.id
    join (
        select run_id, step, count(*) as planned, count(sampled_at) as sampled,
            count(outcome) as verified, count(*) filter (where outcome = 'valid') as valid,
            avg(reward) as reward_mean, max(value) as best
        from archive.attempts where step >= 0 group by run_id, step
    ) c on c.run_id = s.run_id and c.step = s.step
    window so_far as (partition by r.uuid, r.id, p.name order by s.step)""",
)

REWARD_DISTRIBUTION = View(
    "reward_distribution",
    "Rewards of every step over attempts with a verdict, failures counting as 0",
    {
        **OF_RUN,
        "step": "Index of the step",
        "attempts": "Attempts with a verdict",
        "valid": "Valid attempts",
        "minimum": "Smallest reward",
        "p25": "First quartile",
        "median": "Median reward",
        "p75": "Third quartile",
        "maximum": "Largest reward",
        "mean": "Mean reward",
        "stddev": "Standard deviation of the rewards",
    },
    f"""
    select r.uuid, r.id, p.name, a.step, count(*), count(*) filter (where a.outcome = 'valid'),
        min(a.reward), percentile_cont(0.25) within group (order by a.reward),
        percentile_cont(0.5) within group (order by a.reward),
        percentile_cont(0.75) within group (order by a.reward),
        max(a.reward), avg(a.reward), stddev_pop(a.reward)
    from {RUN} join archive.attempts a on a.run_id = r.id
    where a.reward is not null group by r.uuid, r.id, p.name, a.step""",
)

TREE = View(
    "tree",
    "The nodes that may be parents now, with the PUCT numbers that order them",
    {
        **OF_RUN,
        **OF_SLOT,
        "seq": "Archive sequence number",
        "parent": "Parent attempt, none for seeds",
        "depth": "Number of ancestors",
        "path": "All ancestors, root first",
        "is_seed": "Whether the node is a seed",
        "value": "Metric with sign; of a redrawn seed, its last draw's",
        "score": "Metric as printed",
        "visits": "Visits n, in the run's visit unit",
        "best_child": "Largest value of a valid direct child",
        "q": "Q: best child value once visited, else the value",
        "prior": "Rank prior P",
        "bonus": "Exploration bonus",
        "puct": "PUCT score: q + bonus",
        "rank": "Place in the order of choice, from 1, before lineages are blocked",
    },
    f"""
    with node as (
        select r.uuid, r.id as run_id, p.name, a.*,
            {score("coalesce(draw.value, a.value)")} as printed, {VISITS} as visits,
            coalesce(draw.value, a.value) as v, a.step = -1 as is_seed,
            case r.config->>'visit_unit' when 'rollout' then r.total_rollouts
                else r.total_expansions end as total,
            coalesce((r.config->>'puct_c')::float8, 1.0) as c,
            coalesce(r.config->>'scale_over', 'non_seed') = 'all' as over_all
        from {RUN} join (
            select run_id as in_run, id, step, group_index, attempt_index, seq, parent_id, path,
                value, best_child, visits_expansion, visits_rollout
            from archive.attempts where eligible
        ) a on a.in_run = r.id
        left join lateral (
            select d.value from archive.attempts d
            where a.step = -1 and d.run_id = a.in_run and d.step = -1
                and d.group_index = a.group_index
            order by d.attempt_index desc limit 1
        ) draw on true
    ), ranked as (
        select node.*, count(*) over w as nodes,
            row_number() over (partition by uuid, run_id, name order by v desc, seq) - 1 as place,
            greatest(1e-6, coalesce(
                case when not over_all then max(v) filter (where not is_seed) over w
                    - min(v) filter (where not is_seed) over w end,
                max(v) over w - min(v) over w)) as scale,
            case when visits > 0 then coalesce(best_child, v) else v end as q
        from node window w as (partition by uuid, run_id, name)
    ), scored as (
        select ranked.*, (nodes - place) / (nodes * (nodes + 1) / 2.0::float8) as prior
        from ranked
    ), complete as (
        select scored.*, c * scale * prior * sqrt(1.0::float8 + total) / (1 + visits) as bonus
        from scored
    )
    select uuid, run_id, name, step, group_index, attempt_index, id, seq, parent_id,
        cardinality(path), path, is_seed, v, printed, visits,
        best_child, q, prior, bonus, q + bonus,
        row_number() over (partition by uuid, run_id, name order by q + bonus desc, v desc, seq)
    from complete""",
)

LINEAGE = View(
    "lineage",
    "How every attempt came about: one row per attempt and ancestor, itself included",
    {
        **OF_RUN,
        "attempt": "Attempt",
        "generation": "Place of the ancestor from the root, from 0; the last is the attempt",
        "ancestor": "Ancestor, or the attempt itself",
        "ancestor_step": "Step of the ancestor",
        "ancestor_outcome": "Outcome of the ancestor",
        "ancestor_value": "Value of the ancestor",
        "ancestor_score": "Score of the ancestor",
    },
    f"""
    select r.uuid, r.id, p.name, a.id, chain.place - 1, b.id, b.step, b.outcome, b.value,
        {score("b.value")}
    from {RUN} join archive.attempts a on a.run_id = r.id
    cross join lateral unnest(a.path || a.id) with ordinality as chain (id, place)
    join archive.attempts b on b.id = chain.id""",
)

FAILURES = View(
    "failures",
    "Why attempts failed: one row per step, outcome and message",
    {
        **OF_RUN,
        "step": "Index of the step",
        "outcome": "Class of the verdict; lost when infrastructure gave none",
        "message": "The verdict in one line",
        "attempts": "Attempts that failed so",
        "example": "The first of them",
    },
    f"""
    select r.uuid, r.id, p.name, a.step, coalesce(a.outcome, 'lost'), a.message, count(*),
        min(a.id)
    from {RUN} join archive.attempts a on a.run_id = r.id
    where a.state = 'lost' or a.outcome not in ('valid', 'seed')
    group by r.uuid, r.id, p.name, a.step, coalesce(a.outcome, 'lost'), a.message""",
)

SPEND = View(
    "spend",
    "What every stage cost, all its owners together",
    {
        **OF_RUN,
        "step": "Index of the step",
        "stage": "Stage that spent",
        "tokens_in": "Prompt tokens",
        "tokens_out": "Sampled tokens",
        "tokens_trained": "Trained tokens",
        "cpu_s": "CPU seconds",
        "gpu_s": "GPU seconds",
        "money": "Money, in the backend's currency",
    },
    f"""
    select r.uuid, r.id, p.name, l.step, l.stage, sum(l.tokens_in)::bigint,
        sum(l.tokens_out)::bigint, sum(l.tokens_trained)::bigint, sum(l.cpu_s), sum(l.gpu_s),
        sum(l.money)
    from {RUN} join archive.ledger l on l.run_id = r.id
    group by r.uuid, r.id, p.name, l.step, l.stage""",
)

SUMMARIES = (
    BEST_ATTEMPTS,
    RUN_PROGRESS,
    REWARD_DISTRIBUTION,
    TREE,
    LINEAGE,
    FAILURES,
    SPEND,
    LEADERBOARD,
    CLAIMS,
)
