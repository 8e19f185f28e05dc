"""Revision 0005: claims, provenance and trust of problems."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    "alter table archive.problems add column trust text default 'verified' not null",
    "alter table archive.problems add constraint problems_trust_check"
    " check (trust in ('verified', 'foreign'))",
    "comment on column archive.problems.trust is"
    " 'verified: our verifier scores; foreign: somebody else''s evaluator does'",
    "alter table archive.claims add column exact text",
    "comment on column archive.claims.exact is"
    " 'Score as a fraction p/q, when it was measured exactly'",
)


def upgrade() -> None:
    """Say whose evaluator scored a problem, and keep exact values beside their doubles."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: attempts are never deleted."""
    raise NotImplementedError("the archive has no way back: restore the backup of db upgrade")
