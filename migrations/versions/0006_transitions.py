"""Revision 0006: the comments of the states name the transitions into them."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    "comment on column archive.runs.state is"
    " 'created (add_run) -> running (hold, from any state; without a lease its owner "
    "crashed) -> paused (release: interrupted, saved), finished (the budget ended) or"
    " failed (an error that no retry cured)'",
    "comment on column archive.steps.stage is"
    " 'planned -> sampled -> verified -> archived (settled into the tree) -> updated "
    "(new weights are staged; left out where nothing is trained) -> committed; never "
    "backwards'",
    "comment on column archive.attempts.state is"
    " 'planned (reserved with its number) -> sampled (response stored) -> verified "
    "(verdict stored; seeds start here) -> settled (counts in the tree); planned or "
    "sampled -> lost (infrastructure gave it no verdict)'",
    "comment on table archive.bodies is"
    " 'Large objects, each stored once: prompts, responses, programs, stdout, "
    "constructions; compressed by Postgres: lz4 where the server has it, else pglz'",
)


def upgrade() -> None:
    """Say in the database what leads from one state to the next."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: attempts are never deleted."""
    raise NotImplementedError("the archive has no way back: restore the backup of db upgrade")
