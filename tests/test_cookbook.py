"""docs/sql.md: its questions on a generated archive of 100,000 attempts, answers and plans, and
its Python on a small one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eurekaflow.models import postgres
from eurekaflow.models.archive import Archive, Hold
from eurekaflow.models.questions import GROWTH, ask
from eurekaflow.models.rows import AttemptRow, RunRow
from tests.archives import expand, seeds
from tests.generated_archive import PROBLEMS, RARE, Known, Sizes, generate, questions

pytest_plugins = ("tests.archive_fixtures",)
slow = pytest.mark.slow

PAGE = (Path(__file__).resolve().parent.parent / "docs/sql.md").read_text(encoding="utf-8")
QUESTIONS = dict(questions(PAGE))
BIG = {"attempts", "bodies", "tokens"}
SIZES = Sizes()


@pytest.fixture(scope="module")
def made(migrated: None, cluster: postgres.Cluster) -> Iterator[tuple[Archive, Known]]:
    """A generated archive and what is known of it."""
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("create database cookbook template eureka_template")
        url = cluster.url_of("cookbook")
        known = generate(url, SIZES)
        archive = Archive(url)
        yield archive, known
        archive.close()
        connection.execute("drop database cookbook with (force)")


def check_lineage(rows: list[dict[str, Any]], known: Known) -> None:
    assert [row["generation"] for row in rows] == list(range(len(rows)))
    assert len(rows) > 2
    assert all("x[" in row["added"] and "x[" in row["removed"] for row in rows[2:])


def check_improvements(rows: list[dict[str, Any]], known: Known) -> None:
    assert [row["gain"] is None for row in rows] == [True] + [False] * (len(rows) - 1)
    assert all(row["gain"] > 0 for row in rows[1:])
    assert abs(rows[-1]["score"]) == pytest.approx(abs(known.best[SIZES.runs]), abs=0)


def check_records(rows: list[dict[str, Any]], known: Known) -> None:
    assert len(rows) == SIZES.runs + len(PROBLEMS)
    assert {row["holder"] for row in rows if row["kind"] == "human"} == {"Somebody"}


def check_best_of_problems(rows: list[dict[str, Any]], known: Known) -> None:
    assert [row["problem"] for row in rows] == sorted(name for name, _ in PROBLEMS)
    for row in rows:
        number = [name for name, _ in PROBLEMS].index(row["problem"])
        of_problem = [v for run, v in known.best.items() if run % len(PROBLEMS) == number]
        sign = -1 if PROBLEMS[number][1] == "min" else 1
        assert row["score"] == sign * max(of_problem)


def check_claims(rows: list[dict[str, Any]], known: Known) -> None:
    assert len(rows) == SIZES.runs
    assert all(row["in_the_run"] == row["measured"] for row in rows)


def check_parents(rows: list[dict[str, Any]], known: Known) -> None:
    assert rows[0]["better"] > 0
    assert [r["gain"] for r in rows] == sorted((r["gain"] for r in rows), reverse=True)


def check_stalled(rows: list[dict[str, Any]], known: Known) -> None:
    assert {int(row["run"].hex[:8], 16) for row in rows} == set(known.stalled)


def check_tokens(rows: list[dict[str, Any]], known: Known) -> None:
    assert {int(row["run"].hex[:8], 16): row["valid"] for row in rows} == known.valid


def check_search(rows: list[dict[str, Any]], known: Known) -> None:
    assert len(rows) == 20
    assert all(RARE in row["program"] for row in rows)


def check_shared(rows: list[dict[str, Any]], known: Known) -> None:
    assert all(row["other_runs"] == SIZES.runs - 1 for row in rows)


def check_beta(rows: list[dict[str, Any]], known: Known) -> None:
    assert [row["log10_beta"] for row in rows] == [1, 2, 3, 4]
    assert sum(row["groups"] for row in rows) == SIZES.runs * SIZES.steps * SIZES.groups


def check_failures(rows: list[dict[str, Any]], known: Known) -> None:
    failed = SIZES.attempts // SIZES.runs - known.valid[SIZES.runs]
    assert sum(row["attempts"] for row in rows) == failed


def check_stages(rows: list[dict[str, Any]], known: Known) -> None:
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert rows[0]["stage"] == "checkpoint"


def check_costs(rows: list[dict[str, Any]], known: Known) -> None:
    assert len(rows) == SIZES.runs
    assert {row["tokens"] for row in rows} == {200 * SIZES.attempts // SIZES.runs}


def check_cost_of_improvements(rows: list[dict[str, Any]], known: Known) -> None:
    steps = known.best_step[SIZES.runs] + 1
    assert sum(row["tokens_for_it"] for row in rows) == 200 * SIZES.groups * SIZES.size * steps


def check_each_step(rows: list[dict[str, Any]], known: Known) -> None:
    assert [row["step"] for row in rows] == list(range(SIZES.steps))


CHECKS = {
    "How did the best attempt come about, change by change?": check_lineage,
    "When did the run improve?": check_improvements,
    "Where do we stand beside the records?": check_records,
    "What is the best of each problem, over all runs?": check_best_of_problems,
    "Which bests were measured again, and how?": check_claims,
    "Which parent paid off?": check_parents,
    "Which parents come next?": lambda rows, known: [r["rank"] for r in rows] == [*range(1, 11)],
    "Is the policy getting better?": check_each_step,
    "How are the rewards of a step distributed?": lambda rows, known: check_each_step(
        [row for row in rows if row["step"] >= 0], known
    ),
    "Does a high beta cost validity?": check_beta,
    "Does the policy repeat itself?": check_each_step,
    "Which runs have stalled?": check_stalled,
    "Which learning rate served a problem best?": lambda rows, known: (
        len(rows) == len(PROBLEMS) and sum(row["runs"] for row in rows) == SIZES.runs
    ),
    "What failed and why, step by step?": check_failures,
    "Which candidates took longest?": lambda rows, known: (
        [r["run_s"] for r in rows] == sorted((r["run_s"] for r in rows), reverse=True)
    ),
    "What did each improvement cost?": check_cost_of_improvements,
    "How many tokens does a valid attempt take?": check_tokens,
    "Which stage takes the time?": check_stages,
    "What did every run cost?": check_costs,
    "Which of this run's hundred best programs did other runs find too?": check_shared,
    "Who has ever used a linear program?": check_search,
}


def test_every_question_of_the_page_is_checked() -> None:
    assert list(QUESTIONS) == list(CHECKS)
    assert len(CHECKS) >= 15


@pytest.mark.services
@slow
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_its_answer(made: tuple[Archive, Known], question: str) -> None:
    archive, known = made
    columns, found = archive.query(QUESTIONS[question], timeout_s=120)
    assert found
    rows = [dict(zip(columns, row, strict=True)) for row in found]
    assert CHECKS[question](rows, known) is not False


@pytest.mark.services
@slow
@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_reads_a_whole_large_table(made: tuple[Archive, Known], question: str) -> None:
    archive, _ = made
    with psycopg.connect(archive.url) as connection:
        row = connection.execute(f"explain (format json) {QUESTIONS[question]}".encode())
        (plan,) = row.fetchone() or ((),)
    scanned = [node["Relation Name"] for node in nodes(plan[0]["Plan"]) if whole(node)]
    assert not BIG & set(scanned), plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's node and all below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def whole(node: dict[str, Any]) -> bool:
    return node["Node Type"] == "Seq Scan"


@pytest.mark.services
@slow
def test_a_plan_that_reads_everything_is_recognised(made: tuple[Archive, Known]) -> None:
    archive, _ = made
    with psycopg.connect(archive.url) as connection:
        row = connection.execute("explain (format json) select avg(cpu_s) from attempts")
        (plan,) = row.fetchone() or ((),)
    assert "attempts" in {n["Relation Name"] for n in nodes(plan[0]["Plan"]) if whole(n)}


@pytest.mark.services
@slow
def test_the_forecast_follows_from_what_the_steps_before_took(made: tuple[Archive, Known]) -> None:
    archive, _ = made
    columns, rows = ask(archive.url, GROWTH)
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    paused = [run for run in range(1, SIZES.runs + 1) if run % 7 == 0]
    assert len(found) == len(paused)
    size = (
        "select sum(pg_total_relation_size(c.oid))::float8 from pg_class c where c.relkind = 'r'"
    )
    where = " and c.relnamespace = 'archive'::regnamespace"
    ((total,),) = archive.query(size + where, as_reader=False)[1]
    assert found[0]["bytes_per_step"] * SIZES.runs * SIZES.steps == pytest.approx(total, rel=0.01)
    assert found[0]["bytes_to_come"] == pytest.approx(found[0]["bytes_per_step"] * 90)


@pytest.mark.services
def test_the_python_of_the_page_gives_typed_rows_and_a_frame(archive: Archive, hold: Hold) -> None:
    archive.add_seeds(hold, seeds(-1.0))
    [seed] = (row.id for row in archive.attempts(hold.run_id, -1))
    [[_, best]] = expand(archive, hold, 0, [(seed, [-0.6, -0.5])])
    archive.commit_step(hold, 0)
    [block] = re.findall(r"^## From Python\n\n```python\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"url": archive.url}
    exec(compile(block, "docs/sql.md", "exec"), names)
    names["archive"].close()
    assert isinstance(names["run"], RunRow)
    assert names["run"].id == hold.run_id
    assert isinstance(names["best"], AttemptRow)
    assert (names["best"].id, names["best"].value) == (best, -0.5)
    assert (names["columns"], names["rows"]) == (["step", "score"], [(0, 0.6), (0, 0.5)])
    frame = names["frame"]
    assert list(frame.columns) == ["step", "valid_fraction", "reward_mean"]
    assert frame.to_numpy().tolist() == [[0, 1.0, 0.55]]


MEMORY = """
import resource, sys
from pathlib import Path
from eurekaflow.models.exports import _arrow, writer
from eurekaflow.models.outgoing import outgoing

_arrow()
target, url = sys.argv[1:]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for form in ("parquet", "csv", "jsonl", "sqlite"):
    views = ("attempts", "attempt_bodies")
    with writer(form, Path(target) / form) as write, outgoing(url, 1, views) as found:
        print([write(rows) for rows in found])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.services
@slow
def test_exporting_a_long_run_takes_little_memory(
    migrated: None, database_url: str, tmp_path: Path
) -> None:
    sizes = Sizes(runs=1, steps=20, groups=8, size=192)
    generate(database_url, sizes)
    command = [sys.executable, "-c", MEMORY, str(tmp_path), database_url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *counts, megabytes = done.stdout.splitlines()
    assert counts == [str([sizes.attempts + 4] * 2)] * 4
    assert float(megabytes) < 40  # 11 were measured
