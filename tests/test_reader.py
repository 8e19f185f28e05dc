"""The reader role: what it may not do, however it is asked, and that it holds nobody up."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from eurekaflow.flows import cli
from eurekaflow.models import postgres, schema
from eurekaflow.models.archive import Archive, Hold
from eurekaflow.models.errors import ArchiveUnavailable, UsageError
from eurekaflow.models.reader import query, reader_url, session
from tests.archives import expand, seeds

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def url(cluster: postgres.Cluster) -> Iterator[str]:
    """An archive made as a user's is: a copied database would lose its own privileges."""
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("create database walled template template0")
        schema.bootstrap(cluster.url_of("walled"))
        yield cluster.url_of("walled")
        connection.execute("drop database walled with (force)")


FORBIDDEN = {
    "read tables": "select * from archive.runs",
    "read tables through a function": "select query_to_xml('table archive.runs',true,true,'')",
    "take another role on": "set role postgres",
    "take another role on within a statement": "select set_config('role', 'postgres', true)",
    "become another user": "set session authorization postgres",
    "read files": "select pg_read_file('/etc/passwd')",
    "list files": "select pg_ls_dir('/')",
    "copy from files": "copy (select 1) to '/tmp/eurekaflow-reader'",
    "run programs": "copy (select 1) to program 'touch /tmp/eurekaflow-reader'",
    "make tables": "create table public.mine (a int)",
    "make temporary tables": "create temporary table mine (a int)",
    "make functions": "create function mine() returns int language sql as 'select 1'",
    "write through views": "update public.attempts set value = 1",
    "delete through views": "delete from public.runs",
    "store large objects": "select lo_from_bytea(0, 'x')",
    "take the locks of runs": "select pg_advisory_lock(1)",
    "take the locks of runs at once": "select pg_try_advisory_lock(1)",
    "lock views": "lock table public.attempts in access exclusive mode",
    "end other sessions": "select pg_terminate_backend(pid) from pg_stat_activity"
    " where usename = 'postgres'",
    "change what the server logs": "set log_statement = 'all'",
}


REFUSALS = (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)


@pytest.mark.parametrize("deed", FORBIDDEN)
def test_the_reader_cannot(url: str, deed: str) -> None:
    with psycopg.connect(reader_url(url)) as connection:
        connection.execute("set transaction read write")  # that it reads only is not the one wall
        with pytest.raises(REFUSALS):
            connection.execute(FORBIDDEN[deed].encode())


def test_a_question_is_asked_by_the_role_itself(url: str) -> None:
    assert query(url, "select session_user::text, current_user::text")[1] == [
        ("eureka_reader", "eureka_reader")
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "select set_config('role', 'none', true),"
        " query_to_xml('select * from archive.runs', true, true, '')",
        "select set_config('transaction_read_only', 'off', true),"
        " query_to_xml('delete from archive.runs', true, true, '')",
        "commit; select 1",
    ],
)
def test_one_statement_cannot_undo_the_limits(url: str, statement: str) -> None:
    with pytest.raises(UsageError, match="query failed"):
        query(url, statement)


def test_a_statement_cannot_lengthen_its_own_time(url: str) -> None:
    sql = "select set_config('statement_timeout', '0', false), pg_sleep(20)"
    begin = time.monotonic()
    with pytest.raises(UsageError, match="longer than"):
        query(url, sql, timeout_s=0.2)
    assert time.monotonic() - begin < 10


def test_a_session_of_the_readers_own_ends_statements_too(url: str) -> None:
    with psycopg.connect(reader_url(url)) as connection:
        assert connection.execute("show statement_timeout").fetchone() == ("1min",)
        assert connection.execute("show default_transaction_read_only").fetchone() == ("on",)


def test_the_reader_reads_every_view_and_sees_no_table(url: str) -> None:
    sql = """select count(*) filter (where table_schema = 'public'), count(*) filter (
        where table_schema = 'archive') from information_schema.table_privileges
        where grantee = 'eureka_reader'"""
    views = "select count(*) from pg_class where relkind = 'v' and relnamespace = 2200"
    with psycopg.connect(url) as connection:
        (count,) = connection.execute(views).fetchone() or (0,)
        assert connection.execute(sql).fetchone() == (count, 0)


def test_an_unreachable_server_is_no_error_of_the_statement() -> None:
    with pytest.raises(ArchiveUnavailable):
        query("postgresql://x@127.0.0.1:9/none", "select 1")


def test_a_long_reading_transaction_holds_no_run_up(archive: Archive, hold: Hold) -> None:
    archive.add_seeds(hold, seeds(-0.9))
    seed = int(archive.nodes(hold.run_id).ids[0])
    with session(archive.url, timeout_s=60) as reading:
        for view in ("runs", "attempts", "attempt_bodies", "tree", "programs", "leaderboard"):
            reading.execute(f"select * from {view}".encode()).fetchall()
        slow = threading.Thread(target=reading.execute, args=[b"select pg_sleep(3) from attempts"])
        slow.start()
        begin = time.monotonic()
        best = seed
        for step in range(3):
            best = expand(archive, hold, step, [(best, [-0.5 / (step + 1), None])])[0][0]
            archive.add_ledger(hold, step, "sample", tokens_out=1)
            archive.commit_step(hold, step)
        hold.renew()
        assert slow.is_alive()
        assert time.monotonic() - begin < 3
        slow.join()
        seen = reading.execute("select count(*) from attempts").fetchone()
    assert seen == (1,)  # its own snapshot
    assert archive.query("select steps, attempts from runs")[1] == [(3, 6)]


def run_sql(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["sql", *arguments]) == 0
    return capsys.readouterr().out


def test_a_question_comes_from_a_file_or_standard_input(
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("EUREKA_DATABASE_URL", url)
    (tmp_path / "q.sql").write_text("select 7 as n")
    assert json.loads(run_sql(capsys, "-f", str(tmp_path / "q.sql"), "--json")) == [{"n": 7}]
    for arguments in (["-"], ["-f", "-"], ["--file", "-"]):
        monkeypatch.setattr(sys, "stdin", io.StringIO("select 8 as n"))
        assert run_sql(capsys, *arguments, "--csv") == "n\n8\n"


@pytest.mark.parametrize("arguments", [[], ["select 1", "-f", "x"], ["-f", "/none"], ["-i", "x"]])
def test_no_statement_or_two_are_refused(
    url: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("EUREKA_DATABASE_URL", url)
    assert cli.main(["sql", *arguments]) == 2


def test_psql_opens_as_the_reader_with_the_limit(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EUREKA_DATABASE_URL", url)
    command = [sys.executable, "-m", "eurekaflow.flows.cli", "sql", "-i", "--timeout", "2"]
    script = (
        "\\pset format unaligned\n\\t\nselect current_user;\nshow statement_timeout;\n\\d runs\n"
    )
    script += "select * from archive.runs;\n"
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "eureka_reader\n2s\n" in done.stdout
    assert "problem_version" in done.stdout
    assert "permission denied" in done.stderr
