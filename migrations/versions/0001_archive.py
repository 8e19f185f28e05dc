"""Revision 0001: the archive as first released. Frozen: later changes are later revisions."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# table, comment, (column, definition, comment) ..., constraints, indexes
TABLES = [
    (
        "problems",
        "A problem version: what values mean and what to beat",
        [
            ("id", "BIGINT GENERATED ALWAYS AS IDENTITY", "Number of the row"),
            ("name", "TEXT NOT NULL", "Canonical problem id"),
            ("version", "TEXT NOT NULL", "Version of statement and verifier"),
            (
                "direction",
                "TEXT NOT NULL",
                "Whether a lower (min) or higher (max) score is better",
            ),
            ("metric", "TEXT NOT NULL", "What the score is called"),
            (
                "records",
                "JSONB DEFAULT '{}'::jsonb NOT NULL",
                "Published results: holder, score, kind, source",
            ),
            (
                "created_at",
                "TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL",
                "When the version was first seen",
            ),
            (
                "seen_at",
                "TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL",
                "When the version was last registered",
            ),
        ],
        [
            "CONSTRAINT problems_pkey PRIMARY KEY (id)",
            "CONSTRAINT problems_name_version_key UNIQUE (name, version)",
            "CONSTRAINT problems_direction_check CHECK (direction in ('min', 'max'))",
        ],
        [],
    ),
    (
        "bodies",
        "Large objects, each stored once: prompts, responses, programs, stdout, constructions",
        [
            ("hash", "BYTEA NOT NULL", "sha256 of kind and content"),
            ("kind", "TEXT NOT NULL", "text or construction"),
            ("content", "TEXT", "Text; NUL and surrogates as \\u{hex}"),
            ("numbers", "DOUBLE PRECISION[]", "Construction, 1-D or 2-D"),
        ],
        [
            "CONSTRAINT bodies_pkey PRIMARY KEY (hash)",
            "CONSTRAINT bodies_kind_check CHECK (kind in ('text', 'construction'))",
            "CONSTRAINT bodies_one_content_check CHECK ((content is null) <> (numbers is null))",
        ],
        [],
    ),
    (
        "runs",
        "A run: one problem, one policy, one configuration, one seed",
        [
            ("id", "BIGINT GENERATED ALWAYS AS IDENTITY", "Number of the row"),
            ("uuid", "UUID DEFAULT gen_random_uuid() NOT NULL", "Public name"),
            ("problem_id", "BIGINT NOT NULL", "Problem"),
            (
                "config",
                "JSONB DEFAULT '{}'::jsonb NOT NULL",
                "Resolved configuration, every setting",
            ),
            ("seed", "BIGINT NOT NULL", "Random seed of the run"),
            (
                "versions",
                "JSONB DEFAULT '{}'::jsonb NOT NULL",
                "Versions of code, template and verifier",
            ),
            (
                "fingerprint",
                "JSONB DEFAULT '{}'::jsonb NOT NULL",
                "What bit equality depends on: wheels, CPU features, dtype, threads",
            ),
            ("hardware", "JSONB DEFAULT '{}'::jsonb NOT NULL", "Machine the run was started on"),
            ("flow_run_id", "TEXT", "Prefect's flow run id"),
            ("state", "TEXT DEFAULT 'created' NOT NULL", "State of the run"),
            ("message", "TEXT DEFAULT '' NOT NULL", "Why the run is in its state, for people"),
            (
                "epoch",
                "BIGINT DEFAULT 0 NOT NULL",
                "Fence: rises with every owner; only the newest may write",
            ),
            ("lease_owner", "TEXT", "Who owns the run now"),
            ("lease_host", "TEXT", "Host of the owner"),
            ("lease_pid", "INTEGER", "Process id of the owner"),
            ("lease_since", "TIMESTAMP WITH TIME ZONE", "When the owner took the run"),
            (
                "lease_expires_at",
                "TIMESTAMP WITH TIME ZONE",
                "When the lease ends unless renewed, by the server's clock",
            ),
            (
                "version",
                "BIGINT DEFAULT 0 NOT NULL",
                "Committed policy version: number of updates",
            ),
            ("next_seq", "BIGINT DEFAULT 0 NOT NULL", "Next archive sequence number"),
            (
                "total_expansions",
                "BIGINT DEFAULT 0 NOT NULL",
                "T in expansion units: finished groups",
            ),
            (
                "total_rollouts",
                "BIGINT DEFAULT 0 NOT NULL",
                "T in rollout units: attempts with a verdict",
            ),
            (
                "created_at",
                "TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL",
                "When the run was added",
            ),
            ("started_at", "TIMESTAMP WITH TIME ZONE", "When the run was first owned"),
            ("finished_at", "TIMESTAMP WITH TIME ZONE", "When the run last finished or failed"),
        ],
        [
            "CONSTRAINT runs_pkey PRIMARY KEY (id)",
            "CONSTRAINT runs_uuid_key UNIQUE (uuid)",
            "CONSTRAINT runs_state_check CHECK (state in ('created', 'running', 'paused', 'finished', 'failed'))",
            "CONSTRAINT runs_problem_id_fkey FOREIGN KEY(problem_id) REFERENCES archive.problems (id)",
        ],
        [],
    ),
    (
        "steps",
        "A step of a run and the stage it reached",
        [
            ("run_id", "BIGINT NOT NULL", "Run"),
            ("step", "INTEGER NOT NULL", "Index of the step, from 0"),
            ("stage", "TEXT NOT NULL", "Stage reached"),
            ("version_sampled", "BIGINT NOT NULL", "Policy version that sampled"),
            ("version_produced", "BIGINT", "Version after the step"),
            (
                "seconds",
                "JSONB DEFAULT '{}'::jsonb NOT NULL",
                "Seconds per stage, queue and run times apart",
            ),
            ("metrics", "JSONB DEFAULT '{}'::jsonb NOT NULL", "Everything measured in the step"),
            ("staging", "JSONB", "Staged weights: folder, files, sha256"),
            (
                "planned_at",
                "TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL",
                "When the step was planned",
            ),
            (
                "archived_at",
                "TIMESTAMP WITH TIME ZONE",
                "When counters and eligibility were settled",
            ),
            ("committed_at", "TIMESTAMP WITH TIME ZONE", "When the step was committed"),
        ],
        [
            "CONSTRAINT steps_pkey PRIMARY KEY (run_id, step)",
            "CONSTRAINT steps_stage_check CHECK (stage in ('planned', 'sampled', 'verified', 'archived', 'updated', 'committed'))",
            "CONSTRAINT steps_step_check CHECK (step >= 0)",
            "CONSTRAINT steps_run_id_fkey FOREIGN KEY(run_id) REFERENCES archive.runs (id)",
        ],
        [],
    ),
    (
        "attempts",
        "One response, its program and its verdict; failed ones included, never deleted",
        [
            ("id", "BIGINT GENERATED ALWAYS AS IDENTITY", "Number of the row"),
            ("run_id", "BIGINT NOT NULL", "Run"),
            ("step", "INTEGER NOT NULL", "Step, -1 for seeds"),
            ("group_index", "INTEGER NOT NULL", "Group within the step; slot of a seed"),
            ("attempt_index", "INTEGER NOT NULL", "Slot within the group; draw number of a seed"),
            ("seq", "BIGINT NOT NULL", "Archive sequence number: settles ties, dedupe and replay"),
            ("parent_id", "BIGINT", "Parent, none for seeds"),
            ("path", "BIGINT[] DEFAULT '{}'::bigint[] NOT NULL", "All ancestors, root first"),
            ("state", "TEXT NOT NULL", "State of the attempt"),
            ("outcome", "TEXT", "Class of the verdict; seed for seeds"),
            ("value", "DOUBLE PRECISION", "Metric with sign, higher is better; none when failed"),
            (
                "reward",
                "DOUBLE PRECISION",
                "Number in the objective, 0 when failed; none without verdict",
            ),
            (
                "archivable",
                "BOOLEAN DEFAULT false NOT NULL",
                "Whether the problem admits the answer as a parent",
            ),
            (
                "eligible",
                "BOOLEAN DEFAULT false NOT NULL",
                "Whether the attempt may be a parent now",
            ),
            (
                "visits_expansion",
                "BIGINT DEFAULT 0 NOT NULL",
                "Finished groups at or below this attempt",
            ),
            (
                "visits_rollout",
                "BIGINT DEFAULT 0 NOT NULL",
                "Attempts with a verdict below this attempt",
            ),
            ("best_child", "DOUBLE PRECISION", "Largest value of a valid direct child"),
            ("dedupe_key", "BYTEA", "Hash of construction or program"),
            ("response_hash", "BYTEA", "Body of the response"),
            ("program_hash", "BYTEA", "Body of the program"),
            ("construction_hash", "BYTEA", "Body of the construction"),
            ("stdout_hash", "BYTEA", "Body of the stdout tail"),
            ("message", "TEXT DEFAULT '' NOT NULL", "The verdict in one line, escaped"),
            ("finish", "TEXT", "How sampling ended: stop or length"),
            ("forced", "BOOLEAN DEFAULT false NOT NULL", "Whether the final answer was forced"),
            ("response_tokens", "INTEGER", "Length of the response"),
            (
                "metrics",
                "JSONB DEFAULT '{}'::jsonb NOT NULL",
                "What the verifier measured besides the value",
            ),
            ("queue_s", "DOUBLE PRECISION", "Seconds the candidate waited for a worker"),
            ("run_s", "DOUBLE PRECISION", "Seconds the candidate ran"),
            ("cpu_s", "DOUBLE PRECISION", "CPU seconds the candidate used"),
            ("worker", "TEXT DEFAULT '' NOT NULL", "Worker that ran the candidate"),
            (
                "planned_at",
                "TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL",
                "When the slot was reserved",
            ),
            ("sampled_at", "TIMESTAMP WITH TIME ZONE", "When the response was stored"),
            (
                "verified_at",
                "TIMESTAMP WITH TIME ZONE",
                "When the verdict was stored; decides nothing",
            ),
        ],
        [
            "CONSTRAINT attempts_pkey PRIMARY KEY (id)",
            "CONSTRAINT attempts_run_id_step_group_index_attempt_index_key UNIQUE (run_id, step, group_index, attempt_index)",
            "CONSTRAINT attempts_run_id_seq_key UNIQUE (run_id, seq)",
            "CONSTRAINT attempts_state_check CHECK (state in ('planned', 'sampled', 'verified', 'settled', 'lost'))",
            "CONSTRAINT attempts_outcome_check CHECK (outcome in ('seed', 'valid', 'unparseable', 'raised', 'timeout', 'memory', 'killed', 'no_result', 'too_large', 'invalid', 'exploit'))",
            "CONSTRAINT attempts_value_check CHECK (value > '-Infinity' and value < 'Infinity')",
            "CONSTRAINT attempts_reward_check CHECK (reward > '-Infinity' and reward < 'Infinity')",
            "CONSTRAINT attempts_best_child_check CHECK (best_child > '-Infinity' and best_child < 'Infinity')",
            "CONSTRAINT attempts_scored_check CHECK (coalesce(outcome in ('valid', 'seed'), false) = (value is not null))",
            "CONSTRAINT attempts_seed_check CHECK ((step = -1) = (coalesce(outcome, '') = 'seed'))",
            "CONSTRAINT attempts_judged_check CHECK (state not in ('verified', 'settled') or outcome is not null)",
            "CONSTRAINT attempts_run_id_fkey FOREIGN KEY(run_id) REFERENCES archive.runs (id)",
            "CONSTRAINT attempts_parent_id_fkey FOREIGN KEY(parent_id) REFERENCES archive.attempts (id)",
            "CONSTRAINT attempts_response_hash_fkey FOREIGN KEY(response_hash) REFERENCES archive.bodies (hash)",
            "CONSTRAINT attempts_program_hash_fkey FOREIGN KEY(program_hash) REFERENCES archive.bodies (hash)",
            "CONSTRAINT attempts_construction_hash_fkey FOREIGN KEY(construction_hash) REFERENCES archive.bodies (hash)",
            "CONSTRAINT attempts_stdout_hash_fkey FOREIGN KEY(stdout_hash) REFERENCES archive.bodies (hash)",
        ],
        [
            "CREATE INDEX attempts_eligible ON archive.attempts (run_id, value DESC) WHERE eligible",
            "CREATE INDEX attempts_open ON archive.attempts (run_id, step) WHERE state in ('planned', 'sampled')",
            "CREATE INDEX attempts_parent ON archive.attempts (parent_id)",
            "CREATE INDEX attempts_valid ON archive.attempts (run_id, value DESC) WHERE outcome = 'valid'",
        ],
    ),
    (
        "groups",
        "The attempts sampled from one parent in one step: one expansion",
        [
            ("run_id", "BIGINT NOT NULL", "Run"),
            ("step", "INTEGER NOT NULL", "Step, -1 for seeds"),
            ("group_index", "INTEGER NOT NULL", "Group within the step"),
            ("parent_id", "BIGINT NOT NULL", "Parent"),
            (
                "shown_id",
                "BIGINT NOT NULL",
                "Attempt shown in the prompt: the parent, or the draw of a redrawn seed",
            ),
            ("prompt_hash", "BYTEA", "Body of the prompt"),
            ("prompt_ids", "INTEGER[] NOT NULL", "Token ids of the prompt, opening included"),
            ("opening", "TEXT DEFAULT '' NOT NULL", "Prefilled start of the answer"),
            ("group_size", "INTEGER NOT NULL", "Attempts planned"),
            (
                "parent_visits",
                "DOUBLE PRECISION",
                "Visits of the parent at planning, in the run's unit",
            ),
            ("parent_q", "DOUBLE PRECISION", "Q of the parent at planning"),
            ("parent_prior", "DOUBLE PRECISION", "Rank prior P of the parent at planning"),
            ("parent_bonus", "DOUBLE PRECISION", "Exploration bonus of the parent at planning"),
            ("parent_puct", "DOUBLE PRECISION", "PUCT score of the parent at planning"),
            ("valid_fraction", "DOUBLE PRECISION", "Valid attempts over attempts with a verdict"),
            ("reward_min", "DOUBLE PRECISION", "Smallest reward"),
            ("reward_mean", "DOUBLE PRECISION", "Mean reward"),
            ("reward_max", "DOUBLE PRECISION", "Largest reward"),
            ("beta", "DOUBLE PRECISION", "Solved or constant beta of the entropic objective"),
            ("kl", "DOUBLE PRECISION", "Achieved KL from uniform, in nats"),
            ("advantage_min", "DOUBLE PRECISION", "Smallest advantage"),
            ("advantage_mean", "DOUBLE PRECISION", "Mean advantage"),
            ("advantage_max", "DOUBLE PRECISION", "Largest advantage"),
            ("constant", "BOOLEAN", "Whether all rewards were equal"),
            ("trained", "BOOLEAN", "Whether the group was trained on"),
        ],
        [
            "CONSTRAINT groups_pkey PRIMARY KEY (run_id, step, group_index)",
            "CONSTRAINT groups_group_size_check CHECK (group_size >= 1)",
            "CONSTRAINT groups_run_id_fkey FOREIGN KEY(run_id) REFERENCES archive.runs (id)",
            "CONSTRAINT groups_parent_id_fkey FOREIGN KEY(parent_id) REFERENCES archive.attempts (id)",
            "CONSTRAINT groups_shown_id_fkey FOREIGN KEY(shown_id) REFERENCES archive.attempts (id)",
            "CONSTRAINT groups_prompt_hash_fkey FOREIGN KEY(prompt_hash) REFERENCES archive.bodies (hash)",
        ],
        [],
    ),
    (
        "tokens",
        "What the update needs of a response, one array element a token",
        [
            ("attempt_id", "BIGINT NOT NULL", "Attempt"),
            ("ids", "INTEGER[] NOT NULL", "Token ids of the response"),
            ("logprobs", "REAL[] NOT NULL", "Sampler log-probs at the wave's temperature"),
            ("mask", "BOOLEAN[] NOT NULL", "Whether the token was sampled, not forced"),
        ],
        [
            "CONSTRAINT tokens_pkey PRIMARY KEY (attempt_id)",
            "CONSTRAINT tokens_attempt_id_fkey FOREIGN KEY(attempt_id) REFERENCES archive.attempts (id)",
        ],
        [],
    ),
    (
        "checkpoints",
        "Weights that exist: files first, this row last",
        [
            ("run_id", "BIGINT NOT NULL", "Run"),
            ("step", "INTEGER NOT NULL", "Step that produced the weights"),
            ("version", "BIGINT NOT NULL", "Policy version: number of updates"),
            ("path", "TEXT NOT NULL", "Folder of the files"),
            ("sha256", "TEXT NOT NULL", "sha256 of the adapter"),
            ("size_bytes", "BIGINT NOT NULL", "Bytes of all files"),
            ("files", "JSONB DEFAULT '{}'::jsonb NOT NULL", "sha256 by file name"),
            ("optimizer_sha256", "TEXT DEFAULT '' NOT NULL", "sha256 of the optimizer state"),
            ("state", "TEXT DEFAULT 'kept' NOT NULL", "Whether the files are kept"),
            (
                "created_at",
                "TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL",
                "When the checkpoint was committed",
            ),
        ],
        [
            "CONSTRAINT checkpoints_pkey PRIMARY KEY (run_id, step)",
            "CONSTRAINT checkpoints_state_check CHECK (state in ('kept', 'pruned'))",
            "CONSTRAINT checkpoints_run_id_fkey FOREIGN KEY(run_id) REFERENCES archive.runs (id)",
        ],
        [],
    ),
    (
        "claims",
        "A re-measurement of an attempt: what a reported result rests on",
        [
            ("id", "BIGINT GENERATED ALWAYS AS IDENTITY", "Number of the row"),
            ("attempt_id", "BIGINT NOT NULL", "Attempt"),
            ("verifier_version", "TEXT NOT NULL", "Version of the verifier"),
            ("mode", "TEXT NOT NULL", "How it was measured: exact, strict or timed"),
            ("hardware", "JSONB DEFAULT '{}'::jsonb NOT NULL", "Machine of the measurement"),
            ("value", "DOUBLE PRECISION NOT NULL", "Value measured, higher is better"),
            ("message", "TEXT DEFAULT '' NOT NULL", "Remarks"),
            (
                "measured_at",
                "TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL",
                "When it was measured",
            ),
        ],
        [
            "CONSTRAINT claims_pkey PRIMARY KEY (id)",
            "CONSTRAINT claims_attempt_id_verifier_version_mode_measured_at_key UNIQUE (attempt_id, verifier_version, mode, measured_at)",
            "CONSTRAINT claims_attempt_id_fkey FOREIGN KEY(attempt_id) REFERENCES archive.attempts (id)",
        ],
        [],
    ),
    (
        "ledger",
        "Spend per stage and owner",
        [
            ("id", "BIGINT GENERATED ALWAYS AS IDENTITY", "Number of the row"),
            ("run_id", "BIGINT NOT NULL", "Run"),
            ("step", "INTEGER NOT NULL", "Step"),
            ("stage", "TEXT NOT NULL", "Stage that spent"),
            ("epoch", "BIGINT NOT NULL", "Owner that spent: a resumed stage has two rows"),
            ("tokens_in", "BIGINT DEFAULT 0 NOT NULL", "Prompt tokens"),
            ("tokens_out", "BIGINT DEFAULT 0 NOT NULL", "Sampled tokens"),
            ("tokens_trained", "BIGINT DEFAULT 0 NOT NULL", "Trained tokens"),
            ("cpu_s", "DOUBLE PRECISION DEFAULT 0 NOT NULL", "CPU seconds"),
            ("gpu_s", "DOUBLE PRECISION DEFAULT 0 NOT NULL", "GPU seconds"),
            ("money", "DOUBLE PRECISION DEFAULT 0 NOT NULL", "Money, in the backend's currency"),
            (
                "spent_at",
                "TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL",
                "When the row was written",
            ),
        ],
        [
            "CONSTRAINT ledger_pkey PRIMARY KEY (id)",
            "CONSTRAINT ledger_run_id_step_stage_epoch_key UNIQUE (run_id, step, stage, epoch)",
            "CONSTRAINT ledger_stage_check CHECK (stage in ('plan', 'sample', 'verify', 'archive', 'update', 'checkpoint'))",
            "CONSTRAINT ledger_run_id_fkey FOREIGN KEY(run_id) REFERENCES archive.runs (id)",
        ],
        [],
    ),
]

LZ4 = (("bodies", "content"), ("bodies", "numbers"), ("tokens", "ids"), ("tokens", "logprobs"))


def upgrade() -> None:
    """Create schema, tables, comments and indexes."""
    op.execute("create schema if not exists archive")
    op.execute(
        "comment on schema archive is 'Tables of eurekaflow: private, read the public views'"
    )
    for table, comment, columns, constraints, indexes in TABLES:
        lines = [f"{name} {definition}" for name, definition, _ in columns] + list(constraints)
        op.execute(f"create table archive.{table} ({', '.join(lines)})")
        op.execute(f"comment on table archive.{table} is {_quoted(comment)}")
        for name, _, words in columns:
            op.execute(f"comment on column archive.{table}.{name} is {_quoted(words)}")
        for index in indexes:
            op.execute(index)
    for table, column in LZ4:
        op.execute(f"alter table archive.{table} alter column {column} set compression lz4")


def downgrade() -> None:
    """Refuse: attempts are never deleted."""
    raise NotImplementedError("the archive has no way back: restore the backup made by db upgrade")


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "''") + "'"
