"""The report: its numbers are the archive's, and what candidates write stays text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurekaflow.flows import charts, report
from eurekaflow.models import report_questions as questions
from eurekaflow.models.archive import Archive, Hold
from eurekaflow.models.errors import UsageError
from eurekaflow.models.questions import ask
from eurekaflow.models.rows import VerdictRow
from tests.archives import expand, planned, sample, seeds, settle, verdict

pytest_plugins = ("tests.archive_fixtures",)
HOSTILE = "<script>alert('x')</script> | `code` </pre><img src=http://x.invalid/a.png>"


class Page(HTMLParser):
    """Tables of the page by section, full values; tags and attributes seen."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: set[str] = set()
        self.links: list[str] = []
        self._rows: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "action")]
        if tag == "table":
            self._rows = self.tables[values["data-section"] or ""] = []
        elif tag == "tr":
            self._rows.append([])
        elif tag == "td":
            self._rows[-1].append(values["title"] or "")


@pytest.fixture
def told(archive: Archive, hold: Hold) -> Archive:
    """A run of two steps whose candidates write HTML."""
    archive.add_seeds(hold, seeds(-1.0, -1.0))
    first, second = (row.id for row in archive.attempts(hold.run_id, -1))
    expand(archive, hold, 0, [(first, [-0.5, None, -0.4]), (second, [-0.7, None, None])])
    archive.add_ledger(hold, 0, "sample", tokens_out=12, cpu_s=1.5)
    archive.commit_step(hold, 0)
    return archive


def uuid_of(archive: Archive, hold: Hold) -> str:
    return str(archive.run(hold.run_id).uuid)


@pytest.mark.services
def test_every_number_of_the_page_is_the_answer_to_its_question(told: Archive, hold: Hold) -> None:
    run = uuid_of(told, hold)
    page = Page(report.of_run(told.url, run).html())
    seen = 0
    for question in questions.QUESTIONS:
        columns, rows = ask(told.url, question.sql, run=run)
        shown = [i for i, name in enumerate(columns) if name != "program"]
        expected = [[full(row[i]) for i in shown] for row in rows]
        found = [row for row in page.tables.get(question.title, []) if row]
        assert found == expected, question.title
        seen += len(found)
    assert seen > 10


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
    assert "<script>" not in "\n".join(
        line for line in made.markdown().splitlines() if not line.startswith("    ")
    )


@pytest.mark.services
def test_the_distribution_counts_every_attempt_of_a_step(told: Archive, hold: Hold) -> None:
    columns, rows = ask(told.url, questions.REWARDS.sql, run=uuid_of(told, hold))
    counted = [dict(zip(columns, row, strict=True)) for row in rows]
    assert sum(row["attempts"] for row in counted) == 6
    assert next(row["attempts"] for row in counted if row["bin"] == 0) == 3
    assert all(0 <= row["bin"] <= 20 for row in counted)


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
