"""The questions behind the numbers of a run's report: SQL over the public views, one per section.

Each takes %(run)s, the run's uuid. docs/report.md repeats them, so that whoever doubts a number
can ask for it; tests compare the two, and every figure of the report with the answers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """One section of the report: what it shows and the SQL that answers it."""

    title: str
    shows: str
    sql: str
    of_some: bool = False  # of some problems only: without an answer there is no section


SUMMARY = Question(
    "The run in numbers",
    "Attempts count those with a verdict, seeds left out; seconds are wall time in stages.",
    """
select r.problem, r.state, r.message, r.steps, r.attempts, v.valid,
    v.valid::float8 / nullif(r.attempts, 0) as valid_fraction, v.best_seed,
    (select b.score from best_attempts b where b.run = r.run order by b.seq desc limit 1) as best,
    r.ended_by,
    (select coalesce(sum(e.value::float8), 0)
        from steps s cross join lateral jsonb_each_text(s.seconds) e
        where s.run = r.run and e.key in
            ('plan', 'sample', 'verify', 'archive', 'update', 'checkpoint')) as seconds,
    (select coalesce(sum(p.money), 0) from spend p where p.run = r.run) as money
from runs r cross join lateral (
    select count(*) filter (where a.outcome = 'valid') as valid,
        (array_agg(a.score order by a.value desc) filter (where a.outcome = 'seed'))[1]
            as best_seed
    from attempts a where a.run = r.run and a.outcome in ('valid', 'seed')
) v where r.run = %(run)s""",
)

RECORDS = Question(
    "Records",
    "Published results for this problem and the best of this run, best first.",
    """
select holder, kind, score, source from leaderboard
where problem = (select problem from runs where run = %(run)s)
    and (run is null or run = %(run)s)
order by value desc""",
)

BEST_SO_FAR = Question(
    "Best so far",
    "The best score reached by the end of each step, and the step's own best.",
    """
select step, score, best_score from run_progress
where run = %(run)s and verified > 0 order by step""",
)

IMPROVEMENTS = Question(
    "Improvements",
    "Every attempt that was better than all before it.",
    """
select step, attempt, score, gain from best_attempts where run = %(run)s order by seq""",
)

SHOWN_STEPS = "0, 9, 24, 49, and the last when it comes before"

REWARDS = Question(
    "Reward distributions",
    f"Rewards of the valid attempts of steps {SHOWN_STEPS}, in 20 bins that all share; bin 0 "
    "holds the failed attempts. Without a step: best of N at this run's number of attempts, from "
    "the newest such run.",
    """
with me as (select run, problem, steps, attempts from runs where run = %(run)s),
other as (
    select o.run from me join runs o on o.problem = me.problem and o.run <> me.run
        and o.config->>'advantage' = 'none' and o.config->>'reuse' = 'fixed'
        and o.attempts >= me.attempts
    order by o.run_id desc limit 1
), shown as (
    select a.step, a.reward, a.outcome from attempts a join me using (run)
    where a.step >= 0 and a.reward is not null
        and (a.step in (0, 9, 24, 49) or (a.step = me.steps - 1 and me.steps < 50))
    union all (
        select null, a.reward, a.outcome from attempts a join other using (run)
        where a.step >= 0 and a.reward is not null
        order by a.seq limit (select attempts from me)
    )
), edges as (
    select min(reward) as low, max(reward) as high from shown where outcome = 'valid'
), binned as (
    select step, low, high, case when outcome <> 'valid' then 0 when high > low
        then least(20, width_bucket(reward, low, high, 20)) else 1 end as bin
    from shown cross join edges
)
select step, bin, count(*) as attempts, low, high,
    sum(count(*)) over (partition by step)::bigint as of_step,
    (sum(count(*) filter (where bin = 0)) over (partition by step)
        / sum(count(*)) over (partition by step))::float8 as failed_fraction
from binned group by step, bin, low, high order by step, bin""",
)

HEALTH = Question(
    "Health",
    "Validity, the objective's mean beta and mean KL from uniform over trained groups, the KL of "
    "the policy to its base, the mean surprise of sampled tokens (an entropy estimate, nats per "
    "token), distinct programs, and seconds.",
    """
select p.step, p.valid_fraction, p.reward_mean,
    (select avg(g.beta) from groups g where g.run = p.run and g.step = p.step and g.trained)
        as beta,
    (select avg(g.kl) from groups g where g.run = p.run and g.step = p.step and g.trained)
        as kl,
    (p.metrics->>'kl_policy_base')::float8 as kl_policy_base,
    (p.metrics->>'negative_logprob_mean')::float8 as surprise,
    (select count(distinct b.program) from attempt_bodies b
        where b.run = p.run and b.step = p.step) as distinct_programs,
    (select sum(s.value::float8) from jsonb_each_text(p.seconds) s) as seconds
from run_progress p where p.run = %(run)s and p.verified > 0 order by p.step""",
)

COST = Question(
    "Cost",
    "What every stage used, all its owners together; seconds are wall time.",
    """
select t.stage, t.seconds, s.tokens_in, s.tokens_out, s.tokens_trained, s.cpu_s, s.gpu_s, s.money
from (
    select e.key as stage, sum(e.value::float8) as seconds
    from steps cross join lateral jsonb_each_text(seconds) e
    where run = %(run)s and e.key in
        ('plan', 'sample', 'verify', 'archive', 'update', 'checkpoint')
    group by e.key
) t left join (
    select stage, sum(tokens_in) as tokens_in, sum(tokens_out) as tokens_out,
        sum(tokens_trained) as tokens_trained, sum(cpu_s) as cpu_s, sum(gpu_s) as gpu_s,
        sum(money) as money
    from spend where run = %(run)s group by stage
) s using (stage)
order by array_position(array['plan', 'sample', 'verify', 'archive', 'update', 'checkpoint'],
    t.stage)""",
)

BEST_ANSWER = Question(
    "Best answer",
    "The best valid attempt; its picture is drawn of the numbers of its construction.",
    """
select b.attempt, b.step, b.score, t.construction
from (
    select run, attempt, step, score from best_attempts
    where run = %(run)s order by seq desc limit 1
) b join attempt_bodies t on t.run = b.run and t.attempt = b.attempt""",
)

KERNEL_TIMES = Question(
    "Kernel times",
    "Microseconds of the best kernel and of its reference in every case; a report of a problem "
    "without kernels leaves this out.",
    """
select c.parts[1]::int as case_number,
    max(m.value::float8) filter (where c.parts[2] = 'score') as kernel_us,
    max(m.value::float8) filter (where c.parts[2] = 'reference') as reference_us
from (
    select run, attempt from best_attempts where run = %(run)s order by seq desc limit 1
) b join attempts a on a.run = b.run and a.attempt = b.attempt
cross join lateral jsonb_each_text(a.metrics) m
cross join lateral regexp_match(m.key, '^case([0-9]+)_(score|reference)_us$') c (parts)
where c.parts is not null group by c.parts[1] order by case_number""",
    of_some=True,
)

LINEAGE = Question(
    "Lineage of the best",
    "From the seed to the best attempt, each with its program.",
    """
select l.generation, l.ancestor as attempt, l.ancestor_step as step, l.ancestor_score as score,
    b.program
from lineage l join attempt_bodies b on b.run = l.run and b.attempt = l.ancestor
where l.run = %(run)s and l.attempt = (
    select attempt from best_attempts where run = %(run)s order by seq desc limit 1)
order by l.generation""",
)

FAILURES = Question(
    "Failures",
    "Why attempts failed, the commonest first.",
    """
select outcome, message, sum(attempts)::bigint as attempts, min(example) as example
from failures where run = %(run)s group by outcome, message
order by attempts desc, outcome, message limit 20""",
)

BEST_OF_N = Question(
    "Best of N",
    "Runs of the same problem that neither train nor reuse, cut at this run's number of attempts.",
    """
select o.run, n.attempts, n.score
from runs me join runs o on o.problem = me.problem and o.run <> me.run
    and o.config->>'advantage' = 'none' and o.config->>'reuse' = 'fixed'
    and o.attempts >= me.attempts
cross join lateral (
    select count(*) as attempts,
        (array_agg(f.score order by f.value desc nulls last))[1] as score
    from (
        select a.score, a.value from attempts a
        where a.run = o.run and a.step >= 0 and a.outcome is not null
        order by a.seq limit me.attempts
    ) f
) n where me.run = %(run)s order by n.score""",
)

WHAT_RAN = Question(
    "What ran",
    "The problem, the model, the seed, the time and the GPU that the head of the report names, "
    "and the best confirmed record, with which it compares.",
    """
select r.problem, (regexp_match(r.config->>'model', '([^/]*)/*$'))[1] as model, r.seed,
    r.started_at, r.hardware->>'gpu' as gpu, r.trust, l.score as record,
    l.holder as record_holder
from runs r left join lateral (
    select score, holder from leaderboard
    where leaderboard.problem = r.problem and kind in ('human', 'ai')
    order by value desc limit 1
) l on true
where r.run = %(run)s""",
)

QUESTIONS = (
    SUMMARY,
    RECORDS,
    BEST_SO_FAR,
    IMPROVEMENTS,
    REWARDS,
    HEALTH,
    COST,
    BEST_ANSWER,
    KERNEL_TIMES,
    LINEAGE,
    FAILURES,
    BEST_OF_N,
    WHAT_RAN,
)
