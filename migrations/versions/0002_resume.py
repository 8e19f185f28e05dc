"""Revision 0002: what resuming needs: forks, fresh policies, retention of checkpoints."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# table | column | definition | comment
COLUMNS = """
runs | forked_from | bigint | Run that this one branched from
runs | fork_step | integer | Last step copied from that run
runs | policy_from | bigint default 0 not null | First step trained by the policy in use; none before is replayed
runs | policies | jsonb default '{}'::jsonb not null | Policies begun afresh: first step, model and time, by first step
runs | discarded_at | timestamptz | When all weights of the policy were given up
steps | settings | jsonb default '{}'::jsonb not null | Settings of a copied step where they differ from the run's
steps | changed | jsonb default '{}'::jsonb not null | Versions and fingerprint it was worked on with, where not the run's
checkpoints | changed_at | timestamptz | When the files were last pruned or made anew
checkpoints | reason | text default '' not null | Why the files were pruned, or how they were made anew
"""  # noqa: E501


def upgrade() -> None:
    """Add the columns, each with its comment."""
    for line in COLUMNS.strip().splitlines():
        table, name, definition, words = line.split(" | ")
        op.execute(f"alter table archive.{table} add column {name} {definition}")
        quoted = words.replace("'", "''")
        op.execute(f"comment on column archive.{table}.{name} is '{quoted}'")
    op.execute(
        "alter table archive.runs add constraint runs_forked_from_fkey"
        " foreign key (forked_from) references archive.runs (id)"
    )


def downgrade() -> None:
    """Refuse: attempts are never deleted."""
    raise NotImplementedError("the archive has no way back: restore the backup of db upgrade")
