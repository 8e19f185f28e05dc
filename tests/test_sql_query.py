"""The query to rewrite: equal results, honest time, and every known trick refused.

The first line of each query in tests/cheats/sql-query/ says what it is refused for.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from eurekaflow.models.throwaway import throwaway
from eurekaflow.verifiers.judge import Judge, JudgeUnavailable
from eurekaflow.verifiers.problem import InvalidAnswer, Outcome
from eurekaflow.verifiers.sql_query import SqlQuery, read
from eurekaflow.verifiers.sql_trial import Databases, Result, first_word

services = pytest.mark.services
CHEATS = sorted((Path(__file__).parent / "cheats/sql-query").glob("*.sql"))
FAST = """
select c.id, c.region, p.orders, p.cents, p.last_order
from customers c join (
    select customer_id, count(*) filter (where status = 'paid') as orders,
        coalesce(sum(cents) filter (where status = 'paid'), 0) as cents,
        max(placed) as last_order
    from orders group by customer_id) p on p.customer_id = c.id
where p.orders >= 2;
"""


@pytest.fixture(scope="module")
def judge(sql_url: str) -> Iterator[Judge]:
    with Judge(2, service=sql_url) as opened:
        yield opened


@services
def test_a_faster_query_with_the_same_result_is_worth_its_runtime(judge: Judge) -> None:
    verdict = judge.verdict_of_text("sql-query", FAST)
    assert verdict.outcome is Outcome.VALID, verdict
    assert verdict.value is not None
    assert -50.0 < verdict.value < 0.0
    assert verdict.metrics["speedup"] > 5.0
    assert verdict.metrics["fastest_ms"] <= -verdict.value <= verdict.metrics["slowest_ms"]
    assert verdict.reward == pytest.approx(-1000.0 / verdict.value)


@services
def test_the_slow_query_is_as_fast_as_itself(judge: Judge) -> None:
    verdict = judge.verdict_of_text("sql-query", SqlQuery.query)
    assert verdict.outcome is Outcome.VALID, verdict
    assert 0.3 < verdict.metrics["speedup"] < 3.0


@services
@pytest.mark.slow
@pytest.mark.parametrize("path", CHEATS, ids=lambda p: p.stem)
def test_a_trick_is_refused_for_the_right_reason(path: Path, judge: Judge) -> None:
    line, _, query = path.read_text(encoding="utf-8").partition("\n")
    verdict = judge.verdict_of_text("sql-query", query)
    assert (verdict.outcome, verdict.value, verdict.reward) == (Outcome.INVALID, None, 0.0)
    assert re.search(line.removeprefix("-- expect: "), verdict.message), verdict.message


@services
def test_tricks_leave_nothing_behind(sql_url: str, judge: Judge) -> None:
    """A legal query is judged after all of them, and no database has anything new."""
    assert judge.verdict_of_text("sql-query", FAST, mode="strict").outcome is Outcome.VALID
    problem, databases = SqlQuery(), Databases(sql_url)
    names = [databases.prepare(problem.script(*c)) for c in (*problem.data, *problem.further)]
    for name in names:
        with psycopg.connect(sql_url, dbname=name) as connection:
            tables = connection.execute(
                "select relname from pg_class where relkind = 'r' and relnamespace not in"
                " ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)"
            ).fetchall()
            assert sorted(tables) == [("customers",), ("orders",)]


@services
def test_a_constant_result_is_refused_on_other_data(sql_url: str) -> None:
    """The whole right answer for one data set, written down."""
    problem = SqlQuery()
    problem.attach(sql_url)
    databases = Databases(sql_url)
    names = [databases.prepare(problem.script(*chosen)) for chosen in problem.data]
    rows = databases.result(names[0], problem.query, most=10_000).rows
    lines = [
        "(" + ", ".join("null" if x is None else f"'{x.decode()}'" for x in row) + ")"
        for row in rows
    ]
    constant = (
        "select id::int, region, orders::bigint, cents::bigint, last_order::date from (values "
        + ", ".join(lines)
        + ") as known (id, region, orders, cents, last_order)"
    )
    found = databases.result(names[0], constant, most=len(rows))
    expected = databases.expected(names[0], problem.query, most=10_000)
    assert found.differs(expected, ordered=False) == ""
    with pytest.raises(InvalidAnswer, match=r"more than the \d+ rows|another result"):
        problem.measure(constant, mode="training")


@services
def test_two_answers_at_once_are_timed_one_after_the_other(judge: Judge) -> None:
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(judge.verdict_of_text("sql-query", FAST)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [verdict.outcome for verdict in found] == [Outcome.VALID] * 2


@services
@pytest.mark.slow
def test_a_lost_server_is_never_a_bad_answer(open_home: Path) -> None:
    from eurekaflow.models import postgres

    home = open_home / "lost"
    home.mkdir()
    home.chmod(0o755)
    with throwaway(home) as url, Judge(1, service=url) as judge:
        assert judge.verdict_of_text("sql-query", FAST).outcome is Outcome.VALID
        pid = postgres.status(home / "throwaway").pid
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        while postgres.status(home / "throwaway").state == "running":
            time.sleep(0.05)
        with pytest.raises(JudgeUnavailable):
            judge.verdict_of_text("sql-query", FAST)


def result(*rows: tuple[bytes | None, ...]) -> Result:
    return Result(((b"a", 23), (b"b", 25)), list(rows))


def test_duplicates_count_and_order_counts_only_where_it_is_asked_for() -> None:
    one, two = (b"1", b"x"), (b"2", None)
    assert result(one, two).differs(result(two, one), ordered=False) == ""
    assert "row 0" in result(one, two).differs(result(two, one), ordered=True)
    assert "1 rows" in result(one, one, two).differs(result(one, two, two), ordered=False)
    assert "columns" in Result((), []).differs(result(), ordered=False)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("  ( select 1)", "select"),
        ("-- set\nWITH a as (select 1) select 1", "with"),
        ("/* /* select */ */ set x = 1", "set"),
        ("/* never closed", ""),
        ("", ""),
        ("ſelect 1", ""),
        ("select/**/1", "select"),
    ],
)
def test_the_first_word_is_found_behind_comments(text: str, word: str) -> None:
    assert first_word(text) == word


@pytest.mark.parametrize("answer", [None, 1, [], "x" * 30_000, "select '\0'", ""])
def test_what_is_no_query_is_refused_before_a_server_sees_it(answer: object) -> None:
    with pytest.raises(InvalidAnswer):
        read(answer)


def test_a_last_semicolon_is_no_second_statement() -> None:
    assert read("select 1;\n") == "select 1"


@services
@pytest.mark.slow
def test_the_documented_query_of_ones_own_is_a_problem(sql_url: str, tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs/sql-query.md").read_text(encoding="utf-8")
    file = tmp_path / "pairs.py"
    file.write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], encoding="utf-8")
    faster = """
        select id, n - 1 as others from (
            select id, count(*) over (partition by date_trunc('hour', at)) as n from events) as e
        where n > 1
    """
    with Judge(1, service=sql_url) as judge:
        verdict = judge.verdict_of_text(str(file), faster)
        assert verdict.outcome is Outcome.VALID, verdict
        wrong = judge.verdict_of_text(str(file), faster.replace("n - 1", "n"))
    assert "not among the expected" in wrong.message
