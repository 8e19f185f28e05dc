# ruff: noqa: E501
"""Revision 0001: the archive as first released. Frozen: later changes are later revisions."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Each table: its comment, its columns (name | definition | comment), constraints, indexes.
TABLES = r"""
table problems | A problem version: what values mean and what to beat
  id | bigint generated always as identity | Number of the row
  name | text not null | Canonical problem id
  version | text not null | Version of statement and verifier
  direction | text not null | Whether a lower (min) or higher (max) score is better
  metric | text not null | What the score is called
  records | jsonb default '{}'::jsonb not null | Published results: holder, score, kind, source
  created_at | timestamptz default now() not null | When the version was first seen
  seen_at | timestamptz default now() not null | When the version was last registered
  CONSTRAINT problems_pkey PRIMARY KEY (id)
  CONSTRAINT problems_name_version_key UNIQUE (name, version)
  CONSTRAINT problems_direction_check CHECK (direction in ('min', 'max'))

table bodies | Large objects, each stored once: prompts, responses, programs, stdout, constructions
  hash | bytea not null | sha256 of kind and content
  kind | text not null | text or construction
  content | text | Text; NUL and surrogates as \u{hex}
  numbers | float8[] | Construction, 1-D or 2-D
  CONSTRAINT bodies_pkey PRIMARY KEY (hash)
  CONSTRAINT bodies_kind_check CHECK (kind in ('text', 'construction'))
  CONSTRAINT bodies_one_content_check CHECK ((content is null) <> (numbers is null))

table runs | A run: one problem, one policy, one configuration, one seed
  id | bigint generated always as identity | Number of the row
  uuid | uuid default gen_random_uuid() not null | Public name
  problem_id | bigint not null | Problem
  config | jsonb default '{}'::jsonb not null | Resolved configuration, every setting
  seed | bigint not null | Random seed of the run
  versions | jsonb default '{}'::jsonb not null | Versions of code, template and verifier
  fingerprint | jsonb default '{}'::jsonb not null | What bit equality depends on: wheels, CPU features, dtype, threads
  hardware | jsonb default '{}'::jsonb not null | Machine the run was started on
  flow_run_id | text | Prefect's flow run id
  state | text default 'created' not null | State of the run
  message | text default '' not null | Why the run is in its state, for people
  epoch | bigint default 0 not null | Fence: rises with every owner; only the newest may write
  lease_owner | text | Who owns the run now
  lease_host | text | Host of the owner
  lease_pid | integer | Process id of the owner
  lease_since | timestamptz | When the owner took the run
  lease_expires_at | timestamptz | When the lease ends unless renewed, by the server's clock
  version | bigint default 0 not null | Committed policy version: number of updates
  next_seq | bigint default 0 not null | Next archive sequence number
  total_expansions | bigint default 0 not null | T in expansion units: finished groups
  total_rollouts | bigint default 0 not null | T in rollout units: attempts with a verdict
  created_at | timestamptz default now() not null | When the run was added
  started_at | timestamptz | When the run was first owned
  finished_at | timestamptz | When the run last finished or failed
  CONSTRAINT runs_pkey PRIMARY KEY (id)
  CONSTRAINT runs_uuid_key UNIQUE (uuid)
  CONSTRAINT runs_state_check CHECK (state in ('created', 'running', 'paused', 'finished', 'failed'))
  CONSTRAINT runs_problem_id_fkey FOREIGN KEY(problem_id) REFERENCES archive.problems (id)

table steps | A step of a run and the stage it reached
  run_id | bigint not null | Run
  step | integer not null | Index of the step, from 0
  stage | text not null | Stage reached
  version_sampled | bigint not null | Policy version that sampled
  version_produced | bigint | Version after the step
  seconds | jsonb default '{}'::jsonb not null | Seconds per stage, queue and run times apart
  metrics | jsonb default '{}'::jsonb not null | Everything measured in the step
  staging | jsonb | Staged weights: folder, files, sha256
  planned_at | timestamptz default now() not null | When the step was planned
  archived_at | timestamptz | When counters and eligibility were settled
  committed_at | timestamptz | When the step was committed
  CONSTRAINT steps_pkey PRIMARY KEY (run_id, step)
  CONSTRAINT steps_stage_check CHECK (stage in ('planned', 'sampled', 'verified', 'archived', 'updated', 'committed'))
  CONSTRAINT steps_step_check CHECK (step >= 0)
  CONSTRAINT steps_run_id_fkey FOREIGN KEY(run_id) REFERENCES archive.runs (id)

table attempts | One response, its program and its verdict; failed ones included, never deleted
  id | bigint generated always as identity | Number of the row
  run_id | bigint not null | Run
  step | integer not null | Step, -1 for seeds
  group_index | integer not null | Group within the step; slot of a seed
  attempt_index | integer not null | Slot within the group; draw number of a seed
  seq | bigint not null | Archive sequence number: settles ties, dedupe and replay
  parent_id | bigint | Parent, none for seeds
  path | bigint[] default '{}'::bigint[] not null | All ancestors, root first
  state | text not null | State of the attempt
  outcome | text | Class of the verdict; seed for seeds
  value | float8 | Metric with sign, higher is better; none when failed
  reward | float8 | Number in the objective, 0 when failed; none without verdict
  archivable | boolean default false not null | Whether the problem admits the answer as a parent
  eligible | boolean default false not null | Whether the attempt may be a parent now
  visits_expansion | bigint default 0 not null | Finished groups at or below this attempt
  visits_rollout | bigint default 0 not null | Attempts with a verdict below this attempt
  best_child | float8 | Largest value of a valid direct child
  dedupe_key | bytea | Hash of construction or program
  response_hash | bytea | Body of the response
  program_hash | bytea | Body of the program
  construction_hash | bytea | Body of the construction
  stdout_hash | bytea | Body of the stdout tail
  message | text default '' not null | The verdict in one line, escaped
  finish | text | How sampling ended: stop or length
  forced | boolean default false not null | Whether the final answer was forced
  response_tokens | integer | Length of the response
  metrics | jsonb default '{}'::jsonb not null | What the verifier measured besides the value
  queue_s | float8 | Seconds the candidate waited for a worker
  run_s | float8 | Seconds the candidate ran
  cpu_s | float8 | CPU seconds the candidate used
  worker | text default '' not null | Worker that ran the candidate
  planned_at | timestamptz default now() not null | When the slot was reserved
  sampled_at | timestamptz | When the response was stored
  verified_at | timestamptz | When the verdict was stored; decides nothing
  CONSTRAINT attempts_pkey PRIMARY KEY (id)
  CONSTRAINT attempts_run_id_step_group_index_attempt_index_key UNIQUE (run_id, step, group_index, attempt_index)
  CONSTRAINT attempts_run_id_seq_key UNIQUE (run_id, seq)
  CONSTRAINT attempts_state_check CHECK (state in ('planned', 'sampled', 'verified', 'settled', 'lost'))
  CONSTRAINT attempts_outcome_check CHECK (outcome in ('seed', 'valid', 'unparseable', 'raised', 'timeout', 'memory', 'killed', 'no_result', 'too_large', 'invalid', 'exploit'))
  CONSTRAINT attempts_value_check CHECK (value > '-Infinity' and value < 'Infinity')
  CONSTRAINT attempts_reward_check CHECK (reward > '-Infinity' and reward < 'Infinity')
  CONSTRAINT attempts_best_child_check CHECK (best_child > '-Infinity' and best_child < 'Infinity')
  CONSTRAINT attempts_scored_check CHECK (coalesce(outcome in ('valid', 'seed'), false) = (value is not null))
  CONSTRAINT attempts_seed_check CHECK ((step = -1) = (coalesce(outcome, '') = 'seed'))
  CONSTRAINT attempts_judged_check CHECK (state not in ('verified', 'settled') or outcome is not null)
  CONSTRAINT attempts_run_id_fkey FOREIGN KEY(run_id) REFERENCES archive.runs (id)
  CONSTRAINT attempts_parent_id_fkey FOREIGN KEY(parent_id) REFERENCES archive.attempts (id)
  CONSTRAINT attempts_response_hash_fkey FOREIGN KEY(response_hash) REFERENCES archive.bodies (hash)
  CONSTRAINT attempts_program_hash_fkey FOREIGN KEY(program_hash) REFERENCES archive.bodies (hash)
  CONSTRAINT attempts_construction_hash_fkey FOREIGN KEY(construction_hash) REFERENCES archive.bodies (hash)
  CONSTRAINT attempts_stdout_hash_fkey FOREIGN KEY(stdout_hash) REFERENCES archive.bodies (hash)
CREATE INDEX attempts_eligible ON archive.attempts (run_id, value DESC) WHERE eligible
CREATE INDEX attempts_open ON archive.attempts (run_id, step) WHERE state in ('planned', 'sampled')
CREATE INDEX attempts_parent ON archive.attempts (parent_id)
CREATE INDEX attempts_valid ON archive.attempts (run_id, value DESC) WHERE outcome = 'valid'

table groups | The attempts sampled from one parent in one step: one expansion
  run_id | bigint not null | Run
  step | integer not null | Step, -1 for seeds
  group_index | integer not null | Group within the step
  parent_id | bigint not null | Parent
  shown_id | bigint not null | Attempt shown in the prompt: the parent, or the draw of a redrawn seed
  prompt_hash | bytea | Body of the prompt
  prompt_ids | integer[] not null | Token ids of the prompt, opening included
  opening | text default '' not null | Prefilled start of the answer
  group_size | integer not null | Attempts planned
  parent_visits | float8 | Visits of the parent at planning, in the run's unit
  parent_q | float8 | Q of the parent at planning
  parent_prior | float8 | Rank prior P of the parent at planning
  parent_bonus | float8 | Exploration bonus of the parent at planning
  parent_puct | float8 | PUCT score of the parent at planning
  valid_fraction | float8 | Valid attempts over attempts with a verdict
  reward_min | float8 | Smallest reward
  reward_mean | float8 | Mean reward
  reward_max | float8 | Largest reward
  beta | float8 | Solved or constant beta of the entropic objective
  kl | float8 | Achieved KL from uniform, in nats
  advantage_min | float8 | Smallest advantage
  advantage_mean | float8 | Mean advantage
  advantage_max | float8 | Largest advantage
  constant | boolean | Whether all rewards were equal
  trained | boolean | Whether the group was trained on
  CONSTRAINT groups_pkey PRIMARY KEY (run_id, step, group_index)
  CONSTRAINT groups_group_size_check CHECK (group_size >= 1)
  CONSTRAINT groups_run_id_fkey FOREIGN KEY(run_id) REFERENCES archive.runs (id)
  CONSTRAINT groups_parent_id_fkey FOREIGN KEY(parent_id) REFERENCES archive.attempts (id)
  CONSTRAINT groups_shown_id_fkey FOREIGN KEY(shown_id) REFERENCES archive.attempts (id)
  CONSTRAINT groups_prompt_hash_fkey FOREIGN KEY(prompt_hash) REFERENCES archive.bodies (hash)

table tokens | What the update needs of a response, one array element a token
  attempt_id | bigint not null | Attempt
  ids | integer[] not null | Token ids of the response
  logprobs | REAL[] not null | Sampler log-probs at the wave's temperature
  mask | boolean[] not null | Whether the token was sampled, not forced
  CONSTRAINT tokens_pkey PRIMARY KEY (attempt_id)
  CONSTRAINT tokens_attempt_id_fkey FOREIGN KEY(attempt_id) REFERENCES archive.attempts (id)

table checkpoints | Weights that exist: files first, this row last
  run_id | bigint not null | Run
  step | integer not null | Step that produced the weights
  version | bigint not null | Policy version: number of updates
  path | text not null | Folder of the files
  sha256 | text not null | sha256 of the adapter
  size_bytes | bigint not null | Bytes of all files
  files | jsonb default '{}'::jsonb not null | sha256 by file name
  optimizer_sha256 | text default '' not null | sha256 of the optimizer state
  state | text default 'kept' not null | Whether the files are kept
  created_at | timestamptz default now() not null | When the checkpoint was committed
  CONSTRAINT checkpoints_pkey PRIMARY KEY (run_id, step)
  CONSTRAINT checkpoints_state_check CHECK (state in ('kept', 'pruned'))
  CONSTRAINT checkpoints_run_id_fkey FOREIGN KEY(run_id) REFERENCES archive.runs (id)

table claims | A re-measurement of an attempt: what a reported result rests on
  id | bigint generated always as identity | Number of the row
  attempt_id | bigint not null | Attempt
  verifier_version | text not null | Version of the verifier
  mode | text not null | How it was measured: exact, strict or timed
  hardware | jsonb default '{}'::jsonb not null | Machine of the measurement
  value | float8 not null | Value measured, higher is better
  message | text default '' not null | Remarks
  measured_at | timestamptz default now() not null | When it was measured
  CONSTRAINT claims_pkey PRIMARY KEY (id)
  CONSTRAINT claims_attempt_id_verifier_version_mode_measured_at_key UNIQUE (attempt_id, verifier_version, mode, measured_at)
  CONSTRAINT claims_attempt_id_fkey FOREIGN KEY(attempt_id) REFERENCES archive.attempts (id)

table ledger | Spend per stage and owner
  id | bigint generated always as identity | Number of the row
  run_id | bigint not null | Run
  step | integer not null | Step
  stage | text not null | Stage that spent
  epoch | bigint not null | Owner that spent: a resumed stage has two rows
  tokens_in | bigint default 0 not null | Prompt tokens
  tokens_out | bigint default 0 not null | Sampled tokens
  tokens_trained | bigint default 0 not null | Trained tokens
  cpu_s | float8 default 0 not null | CPU seconds
  gpu_s | float8 default 0 not null | GPU seconds
  money | float8 default 0 not null | Money, in the backend's currency
  spent_at | timestamptz default now() not null | When the row was written
  CONSTRAINT ledger_pkey PRIMARY KEY (id)
  CONSTRAINT ledger_run_id_step_stage_epoch_key UNIQUE (run_id, step, stage, epoch)
  CONSTRAINT ledger_stage_check CHECK (stage in ('plan', 'sample', 'verify', 'archive', 'update', 'checkpoint'))
  CONSTRAINT ledger_run_id_fkey FOREIGN KEY(run_id) REFERENCES archive.runs (id)
"""
LZ4 = (
    ("bodies", "content"),
    ("bodies", "numbers"),
    ("tokens", "ids"),
    ("tokens", "logprobs"),
    ("tokens", "mask"),
)


def upgrade() -> None:
    """Create schema, tables, comments and indexes."""
    op.execute("create schema if not exists archive")
    op.execute("comment on schema archive is 'Tables of eurekaflow; read the public views'")
    for block in TABLES.strip().split("\n\n"):
        _create(block.splitlines())
    for table, column in LZ4:
        _compress(table, column)


def downgrade() -> None:
    """Refuse: attempts are never deleted."""
    raise NotImplementedError("the archive has no way back: restore the backup of db upgrade")


def _create(lines: list[str]) -> None:
    table, comment = lines[0].removeprefix("table ").split(" | ")
    body = [line.strip() for line in lines[1:] if line.startswith("  ")]
    columns = [line.split(" | ") for line in body if " | " in line]
    rules = [line for line in body if " | " not in line]
    definitions = [f"{name} {definition}" for name, definition, _ in columns] + rules
    op.execute(f"create table archive.{table} ({', '.join(definitions)})")
    op.execute(f"comment on table archive.{table} is {_quoted(comment)}")
    for name, _, words in columns:
        op.execute(f"comment on column archive.{table}.{name} is {_quoted(words)}")
    for index in lines[1:]:
        if not index.startswith("  "):
            op.execute(index)


def _compress(table: str, column: str) -> None:
    """lz4 where the server was built with it (the embedded one is not), else the default."""
    op.execute(
        "do $$ begin"
        f" alter table archive.{table} alter column {column} set compression lz4;"
        " exception when feature_not_supported then null; end $$"
    )


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "''") + "'"
