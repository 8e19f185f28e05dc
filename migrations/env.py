"""Runs the archive's revisions on a given connection, then puts the public views in place.

Tables change by revisions, which are frozen once released. Views are code: they are dropped before
revisions run, because a revision may change what they read, and made anew afterwards, all in one
transaction.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, text

from eurekaflow.models import side_tables, views
from eurekaflow.models.columns import SCHEMA


def migrate(connection: Connection) -> None:
    """Bring tables and views up to the target revision within the connection's transaction."""
    connection.execute(text("select pg_advisory_xact_lock(hashtext('eurekaflow.schema'))"))
    patience_ms = round(1000 * context.config.attributes.get("patience_s", 30))
    connection.execute(text(f"set local lock_timeout = {patience_ms}"))
    connection.execute(text(f"create schema if not exists {SCHEMA}"))
    context.configure(
        connection=connection,
        target_metadata=side_tables.bodies.metadata,
        version_table="revisions",
        version_table_schema=SCHEMA,
        transactional_ddl=False,
    )
    views.drop(connection)
    context.run_migrations()
    views.create(connection)


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    engine = create_engine(str(context.config.get_main_option("sqlalchemy.url")))
    with engine.begin() as connection:
        migrate(connection)
