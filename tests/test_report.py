"""The report: its numbers are the archive's, and what candidates write stays text."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from eurekaflow.flows import charts, rendering, report, report_charts
from eurekaflow.flows.report_text import markdown
from eurekaflow.models import report_questions as questions
from eurekaflow.models.archive import Archive, Hold
from eurekaflow.models.errors import UsageError
from eurekaflow.models.questions import ask
from eurekaflow.models.rows import VerdictRow
from tests.archives import expand, new_run, planned, sample, seeds, settle, verdict

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


@pytest.mark.services
def test_every_number_of_the_page_is_the_answer_to_its_question(told: Archive, hold: Hold) -> None:
    run = uuid_of(told, hold)
    page = Page(report.of_run(told.url, run).html())
    seen = 0
    for title, (columns, rows) in answers(told, run).items():
        shown = [i for i, name in enumerate(columns) if name != "program"]
        expected = [[full(row[i]) for i in shown] for row in rows]
        found = [row for row in page.tables.get(title, []) if row]
        assert found == expected, title
        seen += len(found)
    assert seen > 10


def answers(archive: Archive, run: str) -> dict[str, tuple[list[str], list[tuple[Any, ...]]]]:
    """What the documented questions answer, asked by themselves."""
    return {q.title: ask(archive.url, q.sql, run=run) for q in questions.QUESTIONS}


@pytest.mark.services
def test_every_number_of_the_markdown_is_the_answer_to_its_question(
    told: Archive, hold: Hold
) -> None:
    run = uuid_of(told, hold)
    rendered = Page(rendered_markdown(markdown(report.of_run(told.url, run))))
    found = [[row for row in table if row] for table in rendered.plain_tables]
    expected = []
    for columns, rows in answers(told, run).values():
        shown = [i for i, name in enumerate(columns) if name != "program"]
        cells = [[" ".join(rendering.text(row[i]).split()) for i in shown] for row in rows]
        expected += [cells] if cells else []
    assert found == expected


@pytest.mark.services
def test_the_figures_over_and_under_the_tables_are_answers_too(told: Archive, hold: Hold) -> None:
    told.finish(hold, "paused", "the deadline is passed", rule="deadline")
    run = uuid_of(told, hold)
    made = report.of_run(told.url, run)
    asked = {title: rendering.records(*answer) for title, answer in answers(told, run).items()}
    [numbers] = asked["The run in numbers"]
    facts = dict(made.facts)
    assert (made.state, made.diagnosis) == ("paused by the rule deadline", numbers["message"])
    assert facts.pop("best score") == rendering.number(numbers["best"])
    assert facts.pop("best seed") == rendering.number(numbers["best_seed"])
    assert facts.pop("steps") == str(numbers["steps"]) == "1"
    assert facts.pop("attempts") == rendering.text(numbers["attempts"]) == "6"
    assert facts.pop("valid") == f"{100 * numbers['valid_fraction']:.1f} %" == "50.0 %"
    assert facts.pop("time in stages") == rendering.duration(numbers["seconds"])
    assert numbers["seconds"] == sum(row["seconds"] for row in asked["Cost"]) > 0
    assert facts.pop("money") == f"{numbers['money']:.2f}" == "0.25"
    [record] = [row for row in asked["Records"] if row["holder"] == "Somebody"]
    assert facts == {"record, Somebody": rendering.number(record["score"])}
    captions = [caption for section in made.sections for caption, _ in section.charts if caption]
    first = next(row for row in asked["Reward distributions"] if row["step"] == 0)
    share = f"{100 * first['failed_fraction']:.1f} % failed"
    assert captions[0] == f"step 0: {first['of_step']} attempts, {share}"
    assert captions[0] == "step 0: 6 attempts, 50.0 % failed"


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


@pytest.mark.services
def test_best_of_n_at_the_same_budget_is_a_line_over_every_distribution(
    told: Archive, hold: Hold
) -> None:
    other = new_run(told, advantage="none", reuse="fixed")
    with told.hold(other.id, owner="best of N") as held:
        told.add_seeds(held, seeds(-1.0))
        [seed] = (row.id for row in told.attempts(other.id, -1))
        expand(told, held, 0, [(seed, [-0.9, -0.3, None, None, -0.45, None, -0.1, -0.1])])
    rows = rendering.records(*ask(told.url, questions.REWARDS.sql, run=uuid_of(told, hold)))
    beside = [row for row in rows if row["step"] is None]
    assert sum(row["attempts"] for row in beside) == 6  # this run's number, not the other's 8
    assert beside[0]["failed_fraction"] == 0.5
    assert {(row["low"], row["high"]) for row in rows} == {(0.3, 0.9)}
    made = report.of_run(told.url, uuid_of(told, hold))
    [section] = [s for s in made.sections if s.question is questions.REWARDS]
    [(caption, chart)] = section.charts
    assert caption.endswith("; line: best of N, 6 attempts, 50.0 % failed")
    assert chart.count('class="line s1"') == 1


def test_a_kernels_times_are_drawn_beside_its_references() -> None:
    cases = {f"case{i}_{key}": t * (i + 1) for i in range(11) for key, t in
             (("score_us", 5.0), ("official_us", 6.0), ("reference_us", 9.0))}  # fmt: skip
    [(caption, chart)] = report_charts.case_times({"score_us": 5.0, **cases})
    assert "every case" in caption
    assert chart.count('<circle class="s0"') == chart.count('<circle class="s1"') == 11 + 1
    assert report_charts.case_times({"terms": 3.0}) == []


def test_a_chart_leaves_out_what_is_not_finite() -> None:
    points = [(0.0, 1.0), (1.0, float("nan")), (2.0, float("inf"))]
    drawn = charts.line_chart([charts.Series("s", points)], x_label="x", y_label="y")
    assert drawn.count("<circle") == 1
    assert "nan" not in drawn
    assert charts.line_chart([charts.Series("s", points[1:])], x_label="x", y_label="y") == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3e-7, 2e-7), (2.5, 2.50001), (1e6, 9e9)])
def test_ticks_are_few_ordered_and_inside(low: float, high: float) -> None:
    found = charts.ticks(low, high)
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
