"""The archive's side tables: large contents, tokens, checkpoints, claims and spend."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, REAL

from eurekaflow.models.columns import (
    column,
    count,
    document,
    flag,
    identity,
    metadata,
    one_of,
    run,
    time,
    words,
)
from eurekaflow.models.night_tables import nights
from eurekaflow.models.states import STAGE_OF, CheckpointState

bodies = Table(
    "bodies",
    metadata,
    column("hash", LargeBinary, primary_key=True, comment="sha256 of kind and content"),
    column("kind", Text, comment="text or construction"),
    column("content", Text, nullable=True, comment="Text; NUL and surrogates as \\u{hex}"),
    column("numbers", ARRAY(Double), nullable=True, comment="Construction, 1-D or 2-D"),
    flag("program", "Whether it is a program: what text search looks through"),
    time("pruned_at", "When the content was dropped; the hash stays"),
    one_of("kind", ("text", "construction")),
    CheckConstraint(
        "pruned_at is not null or (content is null) <> (numbers is null)", name="one_content"
    ),
    comment="Large objects, each stored once: prompts, responses, programs, stdout, "
    "constructions; compressed by Postgres: lz4 where the server has it, else pglz",
)
Index(
    "bodies_program_text",
    bodies.c.content,
    postgresql_using="gin",
    postgresql_ops={"content": "gin_trgm_ops"},
    postgresql_where=bodies.c.program,
)

tokens = Table(
    "tokens",
    metadata,
    column(
        "attempt_id",
        BigInteger,
        ForeignKey("archive.attempts.id"),
        primary_key=True,
        comment="Attempt",
    ),
    column("ids", ARRAY(Integer), comment="Token ids of the response"),
    column("logprobs", ARRAY(REAL), comment="Sampler log-probs at the wave's temperature"),
    column("mask", ARRAY(Boolean), comment="Whether the token was sampled, not forced"),
    comment="What the update needs of a response, one array element a token",
)

checkpoints = Table(
    "checkpoints",
    metadata,
    run(primary_key=True),
    column("step", Integer, primary_key=True, comment="Step that produced the weights"),
    column("version", BigInteger, comment="Policy version: number of updates"),
    column("path", Text, comment="Folder of the files"),
    column("sha256", Text, comment="sha256 of the adapter"),
    column("size_bytes", BigInteger, comment="Bytes of all files"),
    document("files", "sha256 by file name"),
    words("optimizer_sha256", "sha256 of the optimizer state"),
    column("state", Text, server_default=text("'kept'"), comment="Whether the files are kept"),
    time("created_at", "When the checkpoint was committed", now=True),
    time("changed_at", "When the files were last pruned or made anew"),
    words("reason", "Why the files were pruned, or how they were made anew"),
    one_of("state", CheckpointState),
    comment="Weights that exist: files first, this row last",
)

claims = Table(
    "claims",
    metadata,
    identity(),
    column("attempt_id", BigInteger, ForeignKey("archive.attempts.id"), comment="Attempt"),
    column("verifier_version", Text, comment="Version of the verifier"),
    column("mode", Text, comment="How it was measured: exact, strict or timed"),
    document("hardware", "Machine of the measurement"),
    column("value", Double, comment="Value measured, higher is better"),
    words("message", "Remarks"),
    time("measured_at", "When it was measured", now=True),
    column(
        "exact",
        Text,
        nullable=True,
        comment="Score as a fraction p/q, when it was measured exactly",
    ),
    UniqueConstraint("attempt_id", "verifier_version", "mode", "measured_at"),
    comment="A re-measurement of an attempt: what a reported result rests on",
)

ledger = Table(
    "ledger",
    metadata,
    identity(),
    run(),
    column("step", Integer, comment="Step"),
    column("stage", Text, comment="Stage that spent"),
    column("epoch", BigInteger, comment="Owner that spent: a resumed stage has two rows"),
    count("tokens_in", "Prompt tokens"),
    count("tokens_out", "Sampled tokens"),
    count("tokens_trained", "Trained tokens"),
    column("cpu_s", Double, server_default=text("0"), comment="CPU seconds"),
    column("gpu_s", Double, server_default=text("0"), comment="GPU seconds"),
    column("money", Double, server_default=text("0"), comment="Money, in the backend's currency"),
    time("spent_at", "When the row was written", now=True),
    column(
        "night_id", BigInteger, ForeignKey(nights.c.id), nullable=True, comment="Night, if any"
    ),
    UniqueConstraint("run_id", "step", "stage", "epoch"),
    Index("ledger_night_id_key", "night_id", postgresql_where=text("night_id is not null")),
    one_of("stage", tuple(STAGE_OF)),
    comment="Spend per stage and owner",
)

prunings = Table(
    "prunings",
    metadata,
    identity(),
    run(),
    document("policy", "What was asked for"),
    column("until_step", Integer, comment="Last step whose contents were dropped"),
    column("tokens_until", Integer, comment="Last step whose tokens were dropped, -1 for none"),
    count("tokens", "Attempts whose tokens were dropped"),
    count("bodies", "Contents that were dropped"),
    count("bytes", "Bytes they took, as stored"),
    time("pruned_at", "When it was done", now=True),
    comment="What was dropped of a run: tokens and contents, never attempts",
)
