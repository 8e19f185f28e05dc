"""Fixtures that many tests share: one embedded Postgres, and a fresh database for each test."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from eurekaflow.models import postgres
from tests import docker_engine

pytest_plugins = ("tests.policy_fixtures", "tests.sql_server", "tests.warm_sandbox")

if not Path("/dev/nvidia0").exists():  # read when triton is first imported, whoever does it
    os.environ["TRITON_INTERPRET"] = "1"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in a script's background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or what we start ignores Ctrl-C too

# Several files run at a time: the longest begin first, so that none is left over at the end.
LONGEST = (
    "test_nightly",
    "test_torture",
    "test_problem_runs",
    "test_main_job",
    "test_compose",
    "test_resume_commands",
    "test_nothing_leaves",
    "test_attacks",
    "test_discover",
    "test_services",
    "test_docker",
    "test_contest_cheats",
    "test_bundled_policy",
    "test_soak",
    "test_endings",
)
TEMPLATE = "eureka_template"  # copied for each test once a fixture has created and migrated it
_PREFIX = "eurekaflow-tests-"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, each still in its own order."""
    first = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path.stem, len(first)))


@pytest.fixture(scope="session")
def cluster() -> Iterator[postgres.Cluster]:
    """A running embedded Postgres in a folder of its own, stopped and removed at the end."""
    _remove_left_behind()
    # Not pytest's tmp_path: its mode-700 parents would send root's data folder to /var/lib.
    home = Path(tempfile.mkdtemp(prefix=_PREFIX))
    home.chmod(0o755)
    with postgres.hold(home):
        started = postgres.ensure(home)
        with psycopg.connect(started.url, autocommit=True) as connection:
            # A killed server loses nothing by this; only a killed machine would.
            connection.execute("alter system set fsync = off")
            connection.execute("select pg_reload_conf()")
        yield started
    _remove(home)


@pytest.fixture
def database_url(cluster: postgres.Cluster) -> Iterator[str]:
    """The URL of a database made for one test, a copy of `eureka_template` where that exists."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        found = connection.execute("select 1 from pg_database where datname = %s", [TEMPLATE])
        source = TEMPLATE if found.fetchone() else "template0"
        create = sql.SQL("create database {} template {}")
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(source)))
        yield cluster.url_of(name)
        drop = sql.SQL("drop database {} with (force)")
        connection.execute(drop.format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def container_engine() -> Iterator[str | None]:
    """The address of a container engine, one for all tests; None is the environment's own."""
    with docker_engine.engine() as address:
        yield address


def _remove(home: Path) -> None:
    postgres.stop(home, force=True)
    shutil.rmtree(home, ignore_errors=True)


def _remove_left_behind() -> None:
    """Stop the servers of earlier sessions that were killed before they could."""
    for home in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        old = time.time() - home.stat().st_mtime > 60
        if old and home.stat().st_uid == os.geteuid() and not postgres.in_use(home):
            _remove(home)
