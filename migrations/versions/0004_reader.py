"""Revision 0004: what questions in SQL need: indexes, pruning, the reader."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COMMENTS = {
    "column archive.bodies.program": "Whether it is a program: what text search looks through",
    "column archive.bodies.pruned_at": "When the content was dropped; the hash stays",
    "table archive.prunings": "What was dropped of a run: tokens and contents, never attempts",
    "column archive.prunings.id": "Number of the row",
    "column archive.prunings.run_id": "Run",
    "column archive.prunings.policy": "What was asked for",
    "column archive.prunings.until_step": "Last step whose contents were dropped",
    "column archive.prunings.tokens_until": "Last step whose tokens were dropped, -1 for none",
    "column archive.prunings.tokens": "Attempts whose tokens were dropped",
    "column archive.prunings.bodies": "Contents that were dropped",
    "column archive.prunings.bytes": "Bytes they took, as stored",
    "column archive.prunings.pruned_at": "When it was done",
}
STATEMENTS = (
    "alter table archive.bodies add column program boolean default false not null,"
    " add column pruned_at timestamptz",
    "alter table archive.bodies drop constraint bodies_one_content_check",
    "alter table archive.bodies add constraint bodies_one_content_check"
    " check (pruned_at is not null or (content is null) <> (numbers is null))",
    "update archive.bodies set program = true where hash in"
    " (select program_hash from archive.attempts)",
    """create table archive.prunings (
        id bigint generated always as identity,
        run_id bigint not null,
        policy jsonb default '{}'::jsonb not null,
        until_step integer not null,
        tokens_until integer not null,
        tokens bigint default 0 not null,
        bodies bigint default 0 not null,
        bytes bigint default 0 not null,
        pruned_at timestamptz default now() not null,
        constraint prunings_pkey primary key (id),
        constraint prunings_run_id_fkey foreign key (run_id) references archive.runs (id)
    )""",
    "create index attempts_program on archive.attempts (program_hash, run_id)"
    " include (id) where program_hash is not null",
)
# Trigrams serve like, ilike and regular expressions. A server without the extension, or a role
# that may not add it, searches without the index: slower, with the same answers.
TRIGRAMS = """
do $$ begin
    create extension if not exists pg_trgm schema archive;
    set local search_path = archive, public;
    create index bodies_program_text on archive.bodies using gin (content gin_trgm_ops)
        where program;
exception when insufficient_privilege or undefined_file or feature_not_supported
    or undefined_object then null;
end $$"""


def upgrade() -> None:
    """Mark programs, index them, and make room for a record of what is pruned."""
    for statement in STATEMENTS:
        op.execute(statement)
    op.execute(TRIGRAMS)
    op.execute("set local search_path to default")
    for name, words in COMMENTS.items():
        op.execute(f"comment on {name} is '{words}'")


def downgrade() -> None:
    """Refuse: attempts are never deleted."""
    raise NotImplementedError("the archive has no way back: restore the backup of db upgrade")
