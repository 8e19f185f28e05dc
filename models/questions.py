"""The questions that the command line asks: named SQL over the public views, and `ask`.

Only psycopg is imported, because these commands should answer in well under a second.
"""

from __future__ import annotations

from typing import Any

import psycopg

from eurekaflow.models.errors import ArchiveUnavailable, SchemaMismatch

TIMEOUT_MS = 30_000


def ask(url: str, question: str, **values: object) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows of one question, asked in a read-only transaction.

    Raises ArchiveUnavailable when the server does not answer, SchemaMismatch when the archive
    lacks what is asked for.
    """
    options = f"-c default_transaction_read_only=on -c statement_timeout={TIMEOUT_MS}"
    try:
        with psycopg.connect(url, options=options) as connection:
            cursor = connection.execute(question.encode(), values)
            return [column.name for column in cursor.description or ()], cursor.fetchall()
    except psycopg.errors.UndefinedTable as error:
        raise SchemaMismatch(
            "the archive has no schema of this version", "eureka db upgrade"
        ) from error
    except psycopg.errors.UndefinedColumn as error:
        raise SchemaMismatch(
            f"the archive is of another version: {error}", "eureka db upgrade"
        ) from error
    except psycopg.OperationalError as error:
        raise ArchiveUnavailable.because(error) from error


_RECORDS = """
    select distinct on (problem) problem, score as record, holder as record_holder
    from leaderboard where kind in ('human', 'ai') order by problem, value desc"""
_REACHED = """
    left join lateral (
        select score as best from best_attempts b
        where b.run_id = r.run_id order by b.seq desc limit 1
    ) reached on true
    left join lateral (
        select count(*) filter (where a.outcome = 'valid') as valid,
            (array_agg(a.score order by a.value desc) filter (where a.outcome = 'seed'))[1]
                as best_seed
        from attempts a where a.run_id = r.run_id and a.outcome in ('valid', 'seed')
    ) counted on true
    left join records using (problem)"""

# The newest runs with what they reached.
RUNS = f"""
    with records as ({_RECORDS})
    select r.run, r.problem, r.state, r.steps, r.attempts, valid, best, record,
        r.created_at as created, r.trust
    from (select * from runs order by run_id desc limit %(limit)s) r {_REACHED}
    order by r.run_id desc"""

# The runs that a reference names: `last`, a number, a uuid or the beginning of one.
RUN = f"""
    with records as ({_RECORDS})
    select r.run, r.run_id, r.problem, r.problem_version, r.state, r.message, r.seed, r.steps,
        (r.config->>'steps')::int as steps_wanted, r.attempts, valid, best, best_seed, record,
        record_holder, r.version, r.owner, r.lease_expires_at as lease_until, r.flow_run,
        r.forked_from, r.fork_step, r.policy_from, r.discarded_at, (
            select max(s.step) from steps s where s.run_id = r.run_id and s.weights = 'kept'
        ) as weights_of_step, r.created_at, r.started_at, r.finished_at,
        r.ended_by, r.resumes, r.trust, r.config, r.versions, r.fingerprint, r.hardware
    from (
        select * from runs where run_id::text = %(ref)s
            or (%(ref)s = 'last' and run_id = (select max(run_id) from runs))
            or (%(ref)s <> '' and starts_with(run::text, %(ref)s))
    ) r {_REACHED}
    order by r.run_id::text = %(ref)s desc, r.run_id desc limit 20"""

# What each step of a run gave.
RUN_STEPS = """
    select p.step, p.stage, p.valid, p.verified, p.reward_mean as reward, p.score, p.best_score,
        g.beta, g.kl, (
            select sum(s.value::float8) from jsonb_each_text(p.seconds) s
            where s.value ~ '^[0-9.eE+-]+$'
        ) as seconds, p.metrics->'failures' as failures
    from run_progress p left join lateral (
        select avg(beta) as beta, avg(kl) as kl from groups
        where groups.run_id = p.run_id and groups.step = p.step and trained
    ) g on true
    where p.run = %(run)s order by p.step"""

# What is missing of a run's unfinished step: slots without a response or without a verdict.
OPEN_SLOTS = """
    select a.step, s.stage, a.group_index,
        coalesce(array_agg(a.attempt_index order by a.attempt_index)
            filter (where a.state = 'planned'), '{}') as without_response,
        coalesce(array_agg(a.attempt_index order by a.attempt_index)
            filter (where a.state = 'sampled'), '{}') as without_verdict
    from attempts a join steps s on s.run = a.run and s.step = a.step
    where a.run = %(run)s and a.state in ('planned', 'sampled')
    group by a.step, s.stage, a.group_index order by a.step, a.group_index"""

# The best valid attempt of a run, with its texts.
BEST = f"""
    with records as ({_RECORDS})
    select b.run, b.problem, b.attempt, b.step, b.group_index, b.attempt_index, b.score, b.value,
        record, record_holder, r.trust, a.reward, a.depth, a.visits, a.metrics, b.verified_at,
        t.program, t.construction
    from (select * from best_attempts where run = %(run)s order by seq desc limit 1) b
    join runs r on r.run_id = b.run_id
    join attempts a on a.run_id = b.run_id and a.attempt = b.attempt
    join attempt_bodies t on t.run_id = b.run_id and t.attempt = b.attempt
    left join records on records.problem = b.problem"""

# How an attempt was last measured again, exactly where it was.
CLAIM = """
    select * from claims where attempt = %(attempt)s
    order by mode = 'exact' desc, measured_at desc limit 1"""

# The nodes that the search may build on, in the order of choice.
TREE = """
    select rank, attempt, step, depth, score, visits, best_child, q, prior, bonus, puct
    from tree where run = %(run)s order by rank limit %(limit)s"""

# What a step of the newest run with these settings took on average, by stages and ledger.
PACE = """
    select r.run, r.steps, (
            select sum(e.value::float8)
            from steps s cross join lateral jsonb_each_text(s.seconds) e
            where s.run_id = r.run_id and s.stage = 'committed' and e.key in
                ('plan', 'sample', 'verify', 'archive', 'update', 'checkpoint')
        ) / r.steps as seconds, p.cpu_s / r.steps as cpu_s, p.gpu_s / r.steps as gpu_s
    from runs r cross join lateral (
        select sum(cpu_s) as cpu_s, sum(gpu_s) as gpu_s from spend where spend.run = r.run
    ) p
    where r.steps > 0 and r.config @> %(settings)s::jsonb and p.cpu_s is not null
    order by r.run_id desc limit 1"""

# How large the tables are. Their names are not an interface.
TABLE_SIZES = """
    select c.relname as table, greatest(c.reltuples, 0)::bigint as rows,
        pg_total_relation_size(c.oid) as bytes
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'archive' and c.relkind = 'r'
    order by bytes desc"""

# What an attempt takes, all tables and indexes together, and what the runs that go on will add:
# a step is forecast to hold as many attempts as the run's newest complete step.
GROWTH = """
    with total as (
        select sum(pg_total_relation_size(c.oid)) as bytes
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'archive' and c.relkind = 'r'
    ), counted as (
        select sum(attempts) as attempts from runs
    ), recent as (
        select r.run, r.problem, r.state, r.steps, (r.config->>'steps')::bigint as wanted,
            (select sum(group_size) from groups g where g.run_id = r.run_id
                and g.step = (select max(step) from groups where run_id = r.run_id)) as a_step
        from runs r where r.state not in ('finished', 'failed') order by r.run_id desc limit 20
    )
    select (bytes / nullif(attempts, 0))::float8 as bytes_per_attempt, run, problem,
        a_step::bigint as attempts_per_step,
        (a_step * bytes / nullif(attempts, 0))::float8 as bytes_per_step,
        greatest(wanted - steps, 0) as steps_left,
        (a_step * greatest(wanted - steps, 0) * bytes / nullif(attempts, 0))::float8
            as bytes_to_come
    from total cross join counted left join recent on true"""
