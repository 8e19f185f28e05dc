"""What the public views select: runs, steps, groups and attempts as users see them.

Every view starts with run, run_id and problem. `value` is higher-is-better, `score` the metric as
papers print it. Windows are partitioned by run, so a condition on run or run_id reads that run.
"""

from __future__ import annotations

from dataclasses import dataclass

from eurekaflow.models.states import ATTEMPT_TRANSITIONS, RUN_TRANSITIONS, STEP_TRANSITIONS


@dataclass(frozen=True)
class View:
    """One public view; `columns` maps each name to its comment, in the order of the select."""

    name: str
    comment: str
    columns: dict[str, str]
    select: str


LOCAL = "p.metric = 'sum over the cases run'"  # a contest: its values are means over a run's cases
CASES = "(r.config->>'cases')::int"


def score(value: str) -> str:
    """SQL for the printed score of a value expression of a run `r` of a problem `p`."""
    return (
        f"case when p.direction = 'min' then -({value}) "
        f"when {LOCAL} then round({value} * {CASES}) else {value} end"
    )


RUN = "archive.runs r join archive.problems p on p.id = r.problem_id"
VISITS = """case r.config->>'visit_unit' when 'rollout' then a.visits_rollout
    else a.visits_expansion end"""
OF_RUN = {
    "run": "Run, its public name",
    "run_id": "Run, its number",
    "problem": "Canonical problem id",
}
OF_SLOT = {
    "step": "Step, -1 for seeds",
    "group_index": "Group within the step; slot of a seed",
    "attempt_index": "Slot within the group; draw number of a seed",
    "attempt": "Attempt, its number",
}

RUNS = View(
    "runs",
    "One row per run",
    {
        **OF_RUN,
        "problem_version": "Version of statement and verifier",
        "state": f"{RUN_TRANSITIONS}; crashed here: running without a lease",
        "message": "Why the run is in its state",
        "seed": "Random seed",
        "config": "Resolved configuration, every setting",
        "versions": "Versions of code, template and verifier",
        "fingerprint": "What bit equality depends on",
        "hardware": "Machine the run was started on",
        "flow_run": "Prefect's flow run id",
        "owner": "Process that owns the run now",
        "version": "Committed policy version: number of updates",
        "steps": "Steps committed",
        "attempts": "Attempts with a verdict, seeds not counted",
        "created_at": "When the run was added",
        "started_at": "When the run was first owned",
        "finished_at": "When the run last finished or failed",
        "lease_expires_at": "When the owner's lease ends unless renewed",
        "forked_from": "Run that this one branched from, or was restarted from with fresh weights",
        "fork_step": "Last step copied from that run; none: its best answers alone, as seeds",
        "policy_from": "First step trained by the policy in use",
        "policies": "Policies begun afresh: first step, model and time, by first step",
        "discarded_at": "When all weights of the policy were given up",
        "best_attempt": "The valid attempt of the highest value, the earliest among equals",
        "best_value": "Its value",
        "best_score": "Its score",
        "best_step": "Step in which it was found",
        "ended_by": "Rule that ended it: budget, target, flat, deadline, …; none: its steps",
        "resumes": "Automatic resumes since a step was last committed",
        "trust": "verified, or foreign when somebody else's evaluator scores",
    },
    f"""
    select r.uuid, r.id, p.name, p.version,
        case when r.state = 'running' and coalesce(r.lease_expires_at < now(), true)
            then 'crashed' else r.state end,
        r.message, r.seed, r.config, r.versions, r.fingerprint, r.hardware, r.flow_run_id,
        case when r.lease_expires_at >= now() then r.lease_owner end, r.version,
        (select count(*) from archive.steps s where s.run_id = r.id and s.stage = 'committed'),
        r.total_rollouts, r.created_at, r.started_at, r.finished_at,
        case when r.lease_expires_at >= now() then r.lease_expires_at end,
        (select f.uuid from archive.runs f where f.id = r.forked_from), r.fork_step,
        r.policy_from, r.policies, r.discarded_at, best.id, best.value,
        {score("best.value")}, best.step, r.ended_by, r.resumes, p.trust
    from {RUN} left join lateral (
        select a.id, a.value, a.step from archive.attempts a
        where a.run_id = r.id and a.outcome = 'valid' order by a.value desc, a.seq limit 1
    ) best on true""",
)

STEPS = View(
    "steps",
    "One row per step of a run",
    {
        **OF_RUN,
        "step": "Index of the step, from 0",
        "stage": f"Stage reached: {STEP_TRANSITIONS}",
        "version_sampled": "Policy version that sampled",
        "version_produced": "Policy version after the step",
        "seconds": "Seconds by stage",
        "metrics": "Everything measured in the step",
        "planned_at": "When the step was planned",
        "archived_at": "When counters and eligibility were settled",
        "committed_at": "When the step was committed",
        "changed": "Versions and fingerprint it was worked on with, where not the run's",
        "weights": "Weights the step produced: kept or pruned; none without an update",
        "weights_reason": "Why they were pruned, or how they were made anew",
    },
    f"""
    select r.uuid, r.id, p.name, s.step, s.stage, s.version_sampled, s.version_produced,
        s.seconds, s.metrics, s.planned_at, s.archived_at, s.committed_at, s.changed, c.state,
        c.reason
    from {RUN} join archive.steps s on s.run_id = r.id
    left join archive.checkpoints c on c.run_id = s.run_id and c.step = s.step""",
)

GROUPS = View(
    "groups",
    "One row per group: the attempts sampled from one parent in one step",
    {
        **OF_RUN,
        "step": "Step",
        "group_index": "Group within the step",
        "parent": "Parent attempt",
        "shown": "Attempt shown in the prompt: the parent, or a redrawn seed's draw",
        "group_size": "Attempts planned",
        "parent_visits": "Visits of the parent when it was chosen",
        "parent_q": "Q of the parent when it was chosen",
        "parent_prior": "Rank prior P of the parent when it was chosen",
        "parent_bonus": "Exploration bonus of the parent when it was chosen",
        "parent_puct": "PUCT score of the parent when it was chosen",
        "valid_fraction": "Valid attempts over attempts with a verdict",
        "reward_min": "Smallest reward",
        "reward_mean": "Mean reward",
        "reward_max": "Largest reward",
        "beta": "Beta of the entropic objective",
        "kl": "Achieved KL from uniform, in nats",
        "advantage_min": "Smallest advantage",
        "advantage_mean": "Mean advantage",
        "advantage_max": "Largest advantage",
        "constant": "Whether all rewards were equal",
        "trained": "Whether the group was trained on",
    },
    f"""
    select r.uuid, r.id, p.name, g.step, g.group_index, g.parent_id, g.shown_id, g.group_size,
        g.parent_visits, g.parent_q, g.parent_prior, g.parent_bonus, g.parent_puct,
        g.valid_fraction, g.reward_min, g.reward_mean, g.reward_max, g.beta, g.kl,
        g.advantage_min, g.advantage_mean, g.advantage_max, g.constant, g.trained
    from {RUN} join archive.groups g on g.run_id = r.id""",
)

ATTEMPTS = View(
    "attempts",
    "One row per attempt, failed ones and seeds included, without the large texts",
    {
        **OF_RUN,
        **OF_SLOT,
        "seq": "Archive sequence number: settles ties and order",
        "parent": "Parent attempt, none for seeds",
        "depth": "Number of ancestors",
        "state": ATTEMPT_TRANSITIONS,
        "outcome": "Class of the verdict; seed for seeds",
        "value": "Metric with sign, higher is better; none when failed",
        "score": "Metric as printed; none when failed",
        "reward": "Number in the objective, 0 when failed",
        "message": "The verdict in one line",
        "eligible": "Whether the attempt may be a parent now",
        "visits": "Visits, in the run's visit unit",
        "best_child": "Largest value of a valid direct child",
        "finish": "How sampling ended: stop or length",
        "forced": "Whether the final answer was forced",
        "tokens": "Length of the response in tokens",
        "metrics": "What the verifier measured besides the value",
        "queue_s": "Seconds the candidate waited for a worker",
        "run_s": "Seconds the candidate ran",
        "cpu_s": "CPU seconds the candidate used",
        "worker": "Worker that ran the candidate",
        "planned_at": "When the slot was reserved",
        "sampled_at": "When the response was stored",
        "verified_at": "When the verdict was stored",
        "program_hash": "Hash of the program; equal programs have equal hashes",
        "construction_hash": "Hash of the construction",
    },
    f"""
    select r.uuid, r.id, p.name, a.step, a.group_index, a.attempt_index, a.id, a.seq, a.parent_id,
        cardinality(a.path), a.state, a.outcome, a.value, {score("a.value")}, a.reward, a.message,
        a.eligible, {VISITS}, a.best_child, a.finish, a.forced, a.response_tokens, a.metrics,
        a.queue_s, a.run_s, a.cpu_s, a.worker, a.planned_at, a.sampled_at, a.verified_at,
        a.program_hash, a.construction_hash
    from {RUN} join archive.attempts a on a.run_id = r.id""",
)

ATTEMPT_BODIES = View(
    "attempt_bodies",
    "The texts and the construction of every attempt, none where they were pruned; NUL and "
    "invalid bytes read as \\u{hex}. Compressed by Postgres itself: lz4 where the server has it, "
    "else pglz, as the embedded one",
    {
        **OF_RUN,
        **OF_SLOT,
        "outcome": "Class of the verdict; seed for seeds",
        "prompt": "Prompt of the attempt's group",
        "response": "Sampled response",
        "program": "Program found in the response",
        "stdout": "Tail of the program's output",
        "message": "The verdict in one line",
        "construction": "What the value belongs to, repaired and normalised",
    },
    f"""
    select r.uuid, r.id, p.name, a.step, a.group_index, a.attempt_index, a.id, a.outcome,
        prompt.content, response.content, program.content, stdout.content, a.message,
        construction.numbers
    from {RUN} join archive.attempts a on a.run_id = r.id
    left join archive.groups g
        on g.run_id = a.run_id and g.step = a.step and g.group_index = a.group_index
    left join archive.bodies prompt on prompt.hash = g.prompt_hash
    left join archive.bodies response on response.hash = a.response_hash
    left join archive.bodies program on program.hash = a.program_hash
    left join archive.bodies stdout on stdout.hash = a.stdout_hash
    left join archive.bodies construction on construction.hash = a.construction_hash""",
)

ROWS = (RUNS, STEPS, GROUPS, ATTEMPTS, ATTEMPT_BODIES)
