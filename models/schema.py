"""Versions of the archive's schema: making it, upgrading it, refusing a wrong one."""

from __future__ import annotations

from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from eurekaflow.models import database, views
from eurekaflow.models.errors import ArchiveUnavailable, SchemaMismatch

_DEPENDED_ON = "2BP01"


def head() -> str:
    """The revision this program works with."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def current(url: str) -> str | None:
    """The revision of the database at `url`; None when it holds no archive.

    Raises SchemaMismatch for a database that keeps no Unicode.
    """
    with database.errors(), _engine(url).begin() as connection:
        _check_encoding(connection)
        return _revision(connection)


def upgrade(url: str, *, patience_s: float = 30) -> None:
    """Bring the archive at `url` to this program's revision, in one transaction.

    Raises SchemaMismatch for a newer archive, when somebody's own views are built on ours, or
    when a session that reads the views does not end within `patience_s` seconds.
    """
    check_newer(current(url))
    config = _config()
    config.attributes["patience_s"] = patience_s
    try:
        with database.errors(), _engine(url).begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except ArchiveUnavailable as error:
        if "lock timeout" not in error.message:
            raise
        raise SchemaMismatch(
            f"somebody has been reading the archive for more than {patience_s:g} s",
            "end that session (select pid, query from pg_stat_activity), then: eureka db upgrade",
        ) from error
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", "") != _DEPENDED_ON:
            raise
        raise SchemaMismatch(
            f"the public views cannot be replaced: {str(error.orig).splitlines()[1:2]}",
            "drop what depends on them, run `eureka db upgrade`, then make it again",
        ) from error


def clear(url: str) -> None:
    """Remove the archive at `url`, so that a backup can be put in its place."""
    with database.errors(), _engine(url).begin() as connection:
        views.drop(connection)
        connection.execute(text("drop schema if exists archive cascade"))
        views.ensure_reader(connection)  # a backup grants the views to it


def bootstrap(url: str) -> None:
    """Make the archive when the database is empty; refuse one of another revision."""
    if current(url) is None:
        upgrade(url)
    else:
        check(url)


def check(url: str) -> None:
    """Raise SchemaMismatch unless the archive has this program's revision."""
    found = current(url)
    check_newer(found)
    if found != head():
        raise SchemaMismatch(
            f"the archive's schema is {found or 'absent'}, this program needs {head()}",
            "eureka db upgrade",
        )


def check_newer(found: str | None) -> None:
    """Raise SchemaMismatch when `found` is a revision this program has never heard of."""
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaMismatch(
            f"the archive's schema is {found}, newer than this program's {head()}",
            "upgrade eurekaflow: pip install --upgrade eurekaflow",
        )


def _revision(connection: Connection) -> str | None:
    present = connection.execute(text("select to_regclass('archive.revisions')")).scalar()
    if present is None:
        return None
    found = connection.execute(text("select version_num from archive.revisions")).scalar()
    return None if found is None else str(found)


def _check_encoding(connection: Connection) -> None:
    found = connection.execute(text("show server_encoding")).scalar()
    if found != "UTF8":
        raise SchemaMismatch(
            f"the database's encoding is {found}, the archive needs UTF8",
            "createdb --template=template0 --encoding=UTF8 NAME, and name it in "
            "EUREKA_DATABASE_URL",
        )


def _engine(url: str) -> Engine:
    # By itself psycopg gives bytes where the server has no encoding, on which SQLAlchemy breaks.
    return create_engine(url, poolclass=NullPool, connect_args={"client_encoding": "utf8"})


def _config() -> Config:
    config = Config()
    # "eurekaflow:migrations" fails in an editable install: the namespace has no real folder
    config.set_main_option("script_location", str(resources.files("eurekaflow.migrations")))
    return config
