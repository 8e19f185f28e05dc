"""The report: its numbers are the archive's, and what candidates write stays text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from eurekaflow.flows import charts, rendering, report
from eurekaflow.flows.report_text import markdown
from eurekaflow.models import report_questions as questions
from eurekaflow.models.archive import Archive, Hold
from eurekaflow.models.errors import UsageError
from eurekaflow.models.questions import ask
from eurekaflow.models.rows import RunRow, VerdictRow
from tests.archives import expand, new_run, planned, sample, seeds, settle, verdict
from tests.report_reading import Plot, Row, asked, documented, figures

pytest_plugins = ("tests.archive_fixtures",)
HOSTILE = (
    "<script>alert('x')</script> | `code` </pre><img src=http://x.invalid/a.png> & &lt;b&gt;\n"
    "![a picture](http://x.invalid/b.png) [a link](http://x.invalid) [run](javascript:alert(1)) "
    "<javascript:alert(2)> **bold** \\\\![c](http://x.invalid/c.png) http://x.invalid/d ~~gone~~"
)


class Page(HTMLParser):
    """Tables of the page by section, full values; tags and attributes seen."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.plain_tables: list[list[list[str]]] = []  # by order, as shown
        self._rows: list[list[str]] = []
        self._cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "action")]
        if tag == "table":
            self._rows = self.tables[values.get("data-section") or ""] = []
            self.plain_tables.append(self._rows)
        elif tag == "tr":
            self._rows.append([])
        elif tag == "td":
            self._rows[-1].append(values.get("title") or "")
            self._cell = "title" not in values

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._cell:
            self._rows[-1][-1] += data


@pytest.fixture
def run(archive: Archive) -> RunRow:
    """A run whose model lies in a folder, on a machine with a GPU."""
    new_run(archive)
    return archive.add_run(
        problem="toy", config={"model": "/models/tiny/"}, seed=7, versions={}, fingerprint={},
        hardware={"gpu": "NVIDIA H200", "machine": "x86_64"},
    )  # fmt: skip


@pytest.fixture
def told(archive: Archive, hold: Hold) -> Archive:
    """A run of two steps whose candidates write HTML."""
    archive.add_seeds(hold, seeds(-1.0, -1.0))
    first, second = (row.id for row in archive.attempts(hold.run_id, -1))
    expand(archive, hold, 0, [(first, [-0.5, None, -0.4]), (second, [-0.7, None, None])])
    archive.add_ledger(hold, 0, "sample", tokens_out=12, cpu_s=1.5, money=0.25)
    archive.stage_done(hold, 0, "sample", 4.5)
    archive.commit_step(hold, 0)
    return archive


def uuid_of(archive: Archive, hold: Hold) -> str:
    return str(archive.run(hold.run_id).uuid)


def cells(rows: list[Row], shown: Callable[[Any], str]) -> list[list[str]]:
    """The rows of a table without what is shown as diffs and as a picture."""
    return [
        [shown(v) for name, v in row.items() if name not in ("program", "construction")]
        for row in rows
    ]


def one_line(value: Any) -> str:
    return " ".join(rendering.text(value).split())


@pytest.mark.services
def test_every_number_of_the_pages_tables_is_the_answer_to_its_documented_question(
    told: Archive, hold: Hold
) -> None:
    run = uuid_of(told, hold)
    page = Page(report.of_run(told.url, run).html())
    answers = asked(told.url, run)
    found = {title: [row for row in rows if row] for title, rows in page.tables.items()}
    assert found == {title: cells(rows, full) for title, rows in answers.items() if rows}
    assert sum(map(len, found.values())) > 10


@pytest.mark.services
def test_every_number_of_the_markdowns_tables_is_the_answer_to_its_documented_question(
    told: Archive, hold: Hold
) -> None:
    run = uuid_of(told, hold)
    rendered = Page(rendered_markdown(markdown(report.of_run(told.url, run))))
    found = [[row for row in table if row] for table in rendered.plain_tables]
    answers = asked(told.url, run)
    assert found == [cells(rows, one_line) for rows in answers.values() if rows]


@pytest.mark.services
def test_a_section_without_a_documented_question_is_none_of_the_report(
    told: Archive, hold: Hold
) -> None:
    made = report.of_run(told.url, uuid_of(told, hold))
    titles = [title for title in documented() if title != "Kernel times"]
    assert [section.question.title for section in made.sections] == titles
    assert [f"## {t}" for t in titles] == re.findall(r"^## .*", markdown(made), re.MULTILINE)


def facts_of(numbers: Row, ran: Row) -> list[tuple[str, str]]:
    """The headline that these answers make."""
    return [
        ("best score", rendering.number(numbers["best"])),
        ("best seed", rendering.number(numbers["best_seed"])),
        (f"record, {ran['record_holder']}", rendering.number(ran["record"])),
        ("steps", str(numbers["steps"])),
        ("attempts", rendering.text(numbers["attempts"])),
        ("valid", f"{100 * numbers['valid_fraction']:.1f} %"),
        ("time in stages", rendering.duration(numbers["seconds"])),
        ("money", f"{numbers['money']:.2f}"),
    ]


@pytest.mark.services
def test_the_figures_of_the_head_are_answers_in_page_and_markdown(
    told: Archive, hold: Hold
) -> None:
    told.finish(hold, "paused", "the deadline is passed", rule="deadline")
    run = uuid_of(told, hold)
    answers = asked(told.url, run)
    [numbers], [ran] = answers["The run in numbers"], answers["What ran"]
    made = report.of_run(told.url, run)
    html, text = made.html(), rendered_markdown(markdown(made))
    facts = facts_of(numbers, ran)
    shown = re.findall(r"<div><b>(.*?)</b><span>(.*?)</span></div>", html)
    assert [(name, value) for value, name in shown] == facts
    assert re.findall(r"<li>(.*?): <strong>(.*?)</strong></li>", text) == facts
    assert ("valid", "50.0 %") in facts
    assert ("money", "0.25") in facts
    assert ("attempts", "6") in facts
    assert ("record, Somebody", "0.5") in facts
    assert numbers["seconds"] == sum(row["seconds"] for row in answers["Cost"]) > 0
    began = f"{ran['started_at'].astimezone():%Y-%m-%d %H:%M:%S}"
    line = f"{ran['problem']}, {ran['model']} policy, seed {ran['seed']}, {began}, {ran['gpu']}"
    assert line == f"toy, tiny policy, seed 7, {began}, NVIDIA H200"
    state = f"{numbers['state']} by the rule {numbers['ended_by']}"
    assert f'<p class="soft">run {run} · {state} · {line}</p>' in html
    assert f"<p>run {run}, {state}, {line}</p>" in text
    for place in (html, text):
        assert f"<p>{numbers['message']}</p>" in place


@pytest.mark.services
def test_the_head_names_the_best_confirmed_record(told: Archive, hold: Hold) -> None:
    records = [
        {"holder": h, "score": s, "kind": k, "source": "a paper"}
        for h, s, k in (("A", 0.5, "human"), ("B", 0.45, "ai"), ("C", 0.4, "claim"))
    ]
    told.add_problem("toy", "1", "min", "length", records)  # fmt: skip
    made = report.of_run(told.url, uuid_of(told, hold))
    assert ("record, B", "0.45") in made.facts


@pytest.mark.services
def test_the_captions_of_charts_and_programs_are_answers_in_page_and_markdown(
    told: Archive, hold: Hold
) -> None:
    best_of_n(told, [-0.9, -0.3, None, None, -0.45, None, -0.1, -0.1])
    run = uuid_of(told, hold)
    answers = asked(told.url, run)
    made = report.of_run(told.url, run)
    html, text = made.html(), rendered_markdown(markdown(made))
    own, other = (
        next(row for row in answers["Reward distributions"] if row["step"] == step)
        for step in (0, None)
    )
    caption = "step 0: {} attempts, {} failed; line: best of N, {} attempts, {} failed".format(
        own["of_step"], f"{100 * own['failed_fraction']:.1f} %",
        other["of_step"], f"{100 * other['failed_fraction']:.1f} %",
    )  # fmt: skip
    assert [words for words, _ in figures(html, "reward-distributions")] == [caption]
    assert f"<p>{caption}</p>" in text
    assert "step 0: 6 attempts, 50.0 % failed;" in caption
    names = [
        f"generation {row['generation']}: {where}, attempt {row['attempt']}, "
        f"score {rendering.number(row['score'])}"
        for row, where in zip(answers["Lineage of the best"], ("seed", "step 0"), strict=True)
    ]
    assert len(names) == 2
    assert re.findall(r"<summary>(generation .*?)</summary>", html) == names
    assert re.findall(r"<p>(generation .*?):</p>", text) == names


def full(value: Any) -> str:
    return repr(value) if isinstance(value, float) else "" if value is None else str(value)


@pytest.mark.services
def test_the_page_asks_nobody_and_runs_nothing(told: Archive, hold: Hold) -> None:
    page = Page(report.of_run(told.url, uuid_of(told, hold)).html())
    assert not page.tags & {"script", "link", "img", "iframe", "object", "form"}
    assert page.links == []


@pytest.mark.services
def test_what_a_candidate_writes_stays_text(archive: Archive, hold: Hold) -> None:
    archive.add_seeds(hold, seeds(-1.0))
    (seed,) = (row.id for row in archive.attempts(hold.run_id, -1))
    sample(archive, hold, archive.plan(hold, 0, [planned(seed, size=2)]))
    good, bad = (row.id for row in archive.attempts(hold.run_id, 0))
    failed = VerdictRow(attempt_id=bad, outcome="raised", message=HOSTILE)
    archive.store_verdicts(hold, 0, [verdict(good, -0.5, HOSTILE), failed])
    settle(archive, hold, 0)
    made = report.of_run(archive.url, uuid_of(archive, hold))
    html = made.html()
    assert "&lt;script&gt;" in html
    assert not Page(html).tags & {"script", "img"}
    rendered = rendered_markdown(markdown(replace(made, title=HOSTILE, diagnosis=HOSTILE)))
    assert Page(rendered).tags <= {"h1", "h2", "p", "ul", "li", "strong", "table", "thead",
                                   "tbody", "tr", "th", "td", "pre", "code"}  # fmt: skip
    assert rendered.count("&lt;script&gt;") >= 4  # title, diagnosis, message, program


def rendered_markdown(text: str) -> str:
    """As viewers do that pass HTML on: CommonMark with tables and strikes."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)


@pytest.mark.services
def test_the_distribution_counts_every_attempt_of_a_step(told: Archive, hold: Hold) -> None:
    columns, rows = ask(told.url, questions.REWARDS.sql, run=uuid_of(told, hold))
    counted = [dict(zip(columns, row, strict=True)) for row in rows]
    assert sum(row["attempts"] for row in counted) == 6
    assert next(row["attempts"] for row in counted if row["bin"] == 0) == 3
    assert all(0 <= row["bin"] <= 20 for row in counted)


def best_of_n(archive: Archive, values: list[float | None]) -> None:
    """A run beside, of one step, that neither trains nor reuses."""
    other = new_run(archive, advantage="none", reuse="fixed")
    with archive.hold(other.id, owner="best of N") as held:
        archive.add_seeds(held, seeds(-1.0))
        [seed] = (row.id for row in archive.attempts(other.id, -1))
        expand(archive, held, 0, [(seed, values)])


@pytest.mark.services
def test_best_of_n_is_cut_at_the_runs_number_of_attempts(told: Archive, hold: Hold) -> None:
    best_of_n(told, [-0.9, -0.3, None, None, -0.45, None, -0.1, -0.1])
    rows = asked(told.url, uuid_of(told, hold))["Reward distributions"]
    beside = [row for row in rows if row["step"] is None]
    assert sum(row["attempts"] for row in beside) == 6  # this run's number, not the other's 8
    assert beside[0]["failed_fraction"] == 0.5
    assert {(row["low"], row["high"]) for row in rows} == {(0.3, 0.9)}


@pytest.mark.services
def test_a_kernels_times_are_the_answer_in_table_chart_and_markdown(
    archive: Archive, hold: Hold
) -> None:
    times = {f"case{i}_{key}": t * (i + 1) for i in range(11) for key, t in
             (("score_us", 5.0), ("official_us", 6.0), ("reference_us", 9.0))}  # fmt: skip
    archive.add_seeds(hold, seeds(-9.0))
    [seed] = (row.id for row in archive.attempts(hold.run_id, -1))
    sample(archive, hold, archive.plan(hold, 0, [planned(seed, size=2)]))
    worse, best = (row.id for row in archive.attempts(hold.run_id, 0))
    slow = {name: 2 * t for name, t in times.items()}
    found = [
        replace(verdict(worse, -8.0), metrics=slow),
        replace(verdict(best, -5.0), metrics=times),
    ]
    archive.store_verdicts(hold, 0, found)
    settle(archive, hold, 0)
    run = uuid_of(archive, hold)
    rows = asked(archive.url, run)["Kernel times"]
    assert rows == [
        {"case_number": i, "kernel_us": 5.0 * (i + 1), "reference_us": 9.0 * (i + 1)}
        for i in range(11)
    ]
    made = report.of_run(archive.url, run)
    html = made.html()
    assert [row for row in Page(html).tables["Kernel times"] if row] == cells(rows, full)
    tables = Page(rendered_markdown(markdown(made))).plain_tables
    assert cells(rows, one_line) in [[row for row in table if row] for table in tables]
    [(caption, svg)] = figures(html, "kernel-times")
    assert "every case" in caption
    plot = Plot(svg)
    for series, name in enumerate(("kernel_us", "reference_us")):
        places = [(plot.x.at(row["case_number"]), plot.y.at(row[name])) for row in rows]
        assert plot.dots(series) == [pytest.approx(place, abs=0.3) for place in places]


def test_a_chart_leaves_out_what_is_not_finite() -> None:
    points = [(0.0, 1.0), (1.0, float("nan")), (2.0, float("inf"))]
    drawn = charts.line_chart([charts.Series("s", points)], x_label="x", y_label="y")
    assert drawn.count("<circle") == 1
    assert "nan" not in drawn
    assert charts.line_chart([charts.Series("s", points[1:])], x_label="x", y_label="y") == ""


@pytest.mark.parametrize("count", [3, 4, 6])
@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.21, 3.43), (-3e-7, 2e-7), (2.5, 2.50001), (1e6, 9e9)]
)
def test_ticks_are_few_ordered_and_inside(low: float, high: float, count: int) -> None:
    found = charts.ticks(low, high, count)
    assert 2 <= len(found) <= 12
    assert found == sorted(found)
    slack = 1e-9 * (high - low)
    assert low - slack <= found[0]
    assert found[-1] <= high + slack


@pytest.mark.parametrize("content", ["", "{}", "[]", '["a"]', "[NaN]", "[[[1]]]", "[1e999]"])
def test_what_is_no_construction_is_not_compared_with(content: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=re.escape(str(path))):
        report.constructions([path])


def test_constructions_are_drawn_over_each_other() -> None:
    from eurekaflow.verifiers.lookup import load

    drawn = load("erdos").picture({"mine": np.ones(4) / 2, "<b>": np.linspace(0, 1, 5)})
    assert drawn.count('class="line') == 2
    assert "<b>" not in drawn
