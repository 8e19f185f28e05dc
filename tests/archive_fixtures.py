"""A migrated archive in a database of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from eurekaflow.models import postgres, schema
from eurekaflow.models.archive import Archive, Hold, RunRow
from tests.archives import new_run

TEMPLATE = "eureka_template"


@pytest.fixture(scope="session")
def migrated(cluster: postgres.Cluster) -> None:
    """Make the template that `database_url` copies, once a session."""
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        known = "select 1 from pg_database where datname = %s"
        if connection.execute(known, [TEMPLATE]).fetchone():
            return
        connection.execute("create database eureka_making template template0")
        schema.upgrade(cluster.url_of("eureka_making"))
        connection.execute(f"alter database eureka_making rename to {TEMPLATE}")


@pytest.fixture
def archive(migrated: None, database_url: str) -> Iterator[Archive]:
    """An archive in a database of its own."""
    opened = Archive(database_url)
    yield opened
    opened.close()


@pytest.fixture
def run(archive: Archive) -> RunRow:
    """A run of a minimised problem with the method's default settings."""
    return new_run(archive)


@pytest.fixture
def hold(archive: Archive, run: RunRow) -> Iterator[Hold]:
    """The run, owned by this process."""
    with archive.hold(run.id, owner="the test") as held:
        yield held
