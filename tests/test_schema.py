"""The schema: every name documented, upgrades, refusals, and who may read what."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from eurekaflow.models import postgres, schema, side_tables, tables, views
from eurekaflow.models.archive import Archive, Hold
from eurekaflow.models.columns import metadata
from eurekaflow.models.errors import SchemaMismatch, UsageError
from eurekaflow.models.states import OUTCOMES, AttemptState, RunState, Stage
from eurekaflow.verifiers.problem import Outcome
from tests.archives import expand, planned, seeds

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = pytest.mark.services

NAMES = [view.name for view in views.VIEWS]
UNDOCUMENTED = """
    select c.oid::regclass::text || coalesce('.' || a.attname, '')
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relkind in ('r', 'v') and c.relname <> 'revisions'
        and (n.nspname = 'archive' or (n.nspname = 'public' and c.relkind = 'v'))
        and (obj_description(c.oid, 'pg_class') is null
            or col_description(c.oid, a.attnum) is null)"""


@pytest.fixture
def empty_url(cluster: postgres.Cluster) -> Any:
    """A database without an archive."""
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("create database empty_archive template template0")
        yield cluster.url_of("empty_archive")
        connection.execute("drop database empty_archive with (force)")


@pytest.fixture
def filled(archive: Archive, hold: Hold) -> Archive:
    """An archive with a settled and committed step."""
    archive.add_seeds(hold, seeds(-1.0, -1.0))
    first, second = (row.id for row in archive.attempts(hold.run_id, -1))
    expand(archive, hold, 0, [(first, [-0.5, None, -0.4]), (second, [-0.7, None, None])])
    archive.add_ledger(hold, 0, "sample", tokens_out=12, cpu_s=1.5)
    archive.commit_step(hold, 0)
    best = archive.best(hold.run_id)
    assert best is not None
    archive.add_claim(
        best.id, verifier_version="1", mode="exact", value=-0.4, hardware={}, exact="2/5"
    )
    with psycopg.connect(archive.url) as connection:
        connection.execute(
            "insert into archive.prunings (run_id, until_step, tokens_until) values (%s, -1, -1)",
            [hold.run_id],
        )
    schedule = archive.add_schedule("n", cron="0 1 * * *", timezone="UTC", plan={"problem": "x"})
    archive.add_missed(schedule.id, datetime(2026, 11, 22, 1, tzinfo=UTC), "the machine was off")
    return archive


def test_every_table_view_and_column_has_a_comment(archive: Archive) -> None:
    assert archive.query(UNDOCUMENTED, as_reader=False)[1] == []


def test_the_migrated_schema_is_the_one_the_tables_describe(archive: Archive) -> None:
    assert tables.runs.metadata is side_tables.bodies.metadata is metadata
    options = {"include_schemas": True, "include_name": _ours, "compare_server_default": False}
    with create_engine(archive.url).connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize(
    ("column", "states"),
    [("runs.state", RunState), ("steps.stage", Stage), ("attempts.state", AttemptState)],
)
def test_the_comments_of_the_states_name_every_state_and_its_transition(
    archive: Archive, column: str, states: type[StrEnum]
) -> None:
    table, name = column.split(".")
    for schema_name in ("archive", "public"):
        sql = (
            "select col_description(attrelid, attnum) from pg_attribute"
            " where attrelid = %s::regclass and attname = %s"
        )
        ((comment,),) = archive.query(
            sql, params=[f"{schema_name}.{table}", name], as_reader=False
        )[1]
        assert "->" in comment
        assert [state for state in states if str(state) not in comment] == []


def _ours(name: str | None, kind: str, _parents: Any) -> bool:
    return name == "archive" if kind == "schema" else name != "revisions"


@pytest.mark.parametrize("name", NAMES)
def test_every_view_answers_the_reader(filled: Archive, name: str) -> None:
    columns, found = filled.query(f"select * from {name}")
    assert columns == list({view.name: view for view in views.VIEWS}[name].columns)
    assert found


def test_the_archive_knows_exactly_the_outcomes_of_verdicts() -> None:
    assert set(OUTCOMES) == {str(outcome) for outcome in Outcome}


def test_improvements_are_listed_in_order(filled: Archive) -> None:
    _, found = filled.query("select value, score from best_attempts order by seq")
    assert found == [(-0.5, 0.5), (-0.4, 0.4)]


def test_the_leaderboard_puts_ours_beside_the_records(filled: Archive) -> None:
    _, found = filled.query("select rank, kind, score from leaderboard order by rank")
    assert found == [(1, "ours", 0.4), (2, "human", 0.5)]


def test_an_empty_database_is_made_and_then_accepted(empty_url: str) -> None:
    assert schema.current(empty_url) is None
    schema.bootstrap(empty_url)
    schema.check(empty_url)
    schema.bootstrap(empty_url)
    assert schema.current(empty_url) == schema.head()


def test_a_database_that_is_no_unicode_is_refused_with_the_command(
    cluster: postgres.Cluster,
) -> None:
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(
            "create database raw_bytes template template0 encoding 'SQL_ASCII' locale 'C'"
        )
        try:
            with pytest.raises(SchemaMismatch, match="SQL_ASCII") as refusal:
                schema.bootstrap(cluster.url_of("raw_bytes"))
        finally:
            connection.execute("drop database raw_bytes with (force)")
    assert "--encoding=UTF8" in refusal.value.fix


@pytest.mark.slow
def test_many_processes_may_make_the_archive_at_once(empty_url: str) -> None:
    program = "import sys; from eurekaflow.models import schema; schema.bootstrap(sys.argv[1])"
    makers = [subprocess.Popen([sys.executable, "-c", program, empty_url]) for _ in range(3)]
    assert [maker.wait() for maker in makers] == [0, 0, 0]
    schema.check(empty_url)


def test_an_upgrade_may_be_repeated(archive: Archive) -> None:
    schema.upgrade(archive.url)
    assert archive.query("select count(*) from runs")[1] == [(0,)]


def test_an_upgrade_tells_of_a_users_view_built_on_ours(archive: Archive) -> None:
    with psycopg.connect(archive.url, autocommit=True) as connection:
        connection.execute("create view mine as select run from public.runs")
    with pytest.raises(SchemaMismatch, match="view mine depends on view runs"):
        schema.upgrade(archive.url)


def test_an_upgrade_gives_up_on_a_reader_that_does_not_end(archive: Archive) -> None:
    with psycopg.connect(archive.url) as reading:
        reading.execute("select * from public.runs")
        with pytest.raises(SchemaMismatch, match="eureka db upgrade"):
            schema.upgrade(archive.url, patience_s=0.2)
    schema.upgrade(archive.url)


def test_an_older_archive_is_refused_with_the_upgrading_command(empty_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="eureka db upgrade"):
        schema.check(empty_url)


def test_a_newer_archive_is_refused_and_left_alone(archive: Archive) -> None:
    with psycopg.connect(archive.url, autocommit=True) as connection:
        connection.execute("update archive.revisions set version_num = '9999'")
    for attempt in (schema.check, schema.upgrade, schema.bootstrap):
        with pytest.raises(SchemaMismatch, match="upgrade eurekaflow"):
            attempt(archive.url)


@pytest.mark.parametrize(
    "statement",
    [
        "select * from archive.runs",
        "delete from runs",
        "create table mine (a int)",
        "select 1; delete from archive.runs",
        "reset role; select * from archive.runs",
        "update attempts set value = 1",
    ],
)
def test_the_reader_neither_sees_tables_nor_writes(filled: Archive, statement: str) -> None:
    with pytest.raises(UsageError, match="query failed"):
        filled.query(statement)


def test_the_reader_role_itself_cannot_read_tables(filled: Archive) -> None:
    with psycopg.connect(filled.url) as connection:
        connection.execute("set role eureka_reader")
        assert connection.execute("select count(*) from attempts").fetchone() == (8,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select count(*) from archive.attempts")


def test_the_owner_cannot_write_through_a_query_either(filled: Archive) -> None:
    with pytest.raises(UsageError, match="read-only"):
        filled.query("delete from archive.ledger", as_reader=False)


def test_a_slow_query_ends_at_its_limit(filled: Archive) -> None:
    with pytest.raises(UsageError, match=r"longer than 0\.05 s"):
        filled.query("select pg_sleep(5)", timeout_s=0.05)


def test_a_query_takes_parameters(filled: Archive) -> None:
    found = filled.query(
        "select attempt_index from attempts where outcome = %s", params=["raised"]
    )
    assert len(found[1]) == 3


def test_lineage_leads_from_the_seed_to_the_attempt(filled: Archive, hold: Hold) -> None:
    parent = filled.best(hold.run_id)
    assert parent is not None
    filled.plan(hold, 1, [planned(parent.id, size=1)])
    child = filled.attempts(hold.run_id, 1)
    sql = "select ancestor from lineage where attempt = %s order by generation"
    path = [row[0] for row in filled.query(sql, params=[child[0].id])[1]]
    assert path == [*parent.path, parent.id, child[0].id]
