"""A run's report: the questions asked, and the page and the markdown made of the answers.

Nothing is loaded from anywhere, there is no script, and every text that a candidate or a model
wrote is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eurekaflow.flows import report_charts
from eurekaflow.flows.rendering import duration, number, records, text
from eurekaflow.models import report_questions as questions
from eurekaflow.models.questions import ask
from eurekaflow.models.report_questions import Question

if TYPE_CHECKING:
    from eurekaflow.verifiers.problem import Construction, Problem

Row = dict[str, Any]
OPEN = {"Records", "Failures", "Best of N"}  # tables shown without a click
DRAWN = {"program", "construction"}  # columns that are shown as diffs and as a picture


@dataclass(frozen=True)
class Cell:
    """A table cell: rounded for the eye, and in full."""

    text: str
    full: str


@dataclass(frozen=True)
class Section:
    """One question with its answer, its charts and, for the lineage, its diffs."""

    question: Question
    columns: list[str]
    rows: list[list[Cell]]
    right: list[bool]
    charts: list[tuple[str, str]] = field(default_factory=list)
    diffs: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return self.question.title.lower().replace(" ", "-")

    @property
    def open(self) -> bool:
        return self.question.title in OPEN

    @property
    def sql(self) -> str:
        return self.question.sql.strip()


@dataclass(frozen=True)
class Report:
    """Everything the pages show of one run."""

    run: str
    title: str
    state: str
    facts_line: str
    facts: list[tuple[str, str]]
    sections: list[Section]
    diagnosis: str = ""
    foreign: bool = False

    @property
    def short(self) -> str:
        return self.run[:8]

    def html(self) -> str:
        """The page."""
        from jinja2 import Environment

        source = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
        names = ("run", "short", "title", "state", "facts_line", "facts", "sections")
        values = {name: getattr(self, name) for name in (*names, "diagnosis", "foreign")}
        return Environment(autoescape=True).from_string(source).render(values)


def build(
    url: str,
    run: str,
    problem: Problem | None,
    compare: Mapping[str, Construction] | None = None,
) -> Report:
    """Ask the questions of the run with this uuid and draw the answers."""
    answers = {q.title: ask(url, q.sql, run=run) for q in questions.QUESTIONS}
    rows = {title: records(*answer) for title, answer in answers.items()}
    best = rows["Best answer"]
    drawn: dict[str, list[tuple[str, str]]] = {
        "Best so far": report_charts.best(rows),
        "Reward distributions": report_charts.rewards(rows, problem),
        "Health": report_charts.health(rows["Health"]),
        "Best answer": report_charts.picture(run[:8], best, problem, compare or {}),
        "Kernel times": report_charts.case_times(rows["Kernel times"]),
    }
    diffs = {"Lineage of the best": report_charts.diffs(rows["Lineage of the best"])}
    sections = [
        _section(q, *answers[q.title], drawn.get(q.title, []), diffs.get(q.title, []))
        for q in questions.QUESTIONS
        if rows[q.title] or not q.of_some
    ]
    [summary], [ran] = rows["The run in numbers"], rows["What ran"]
    return Report(
        run=run,
        title=(problem.title if problem is not None else "") or ran["problem"],
        state=_state(summary),
        facts_line=_facts_line(ran),
        facts=_facts(summary, ran),
        sections=sections,
        diagnosis=summary["message"] or "",
        foreign=ran["trust"] == "foreign",
    )


def _state(summary: Row) -> str:
    rule = summary["ended_by"]
    return f"{summary['state']} by the rule {rule}" if rule else str(summary["state"])


def _facts_line(ran: Row) -> str:
    began = text(ran["started_at"]) or "not started"
    line = f"{ran['problem']}, {ran['model'] or ''} policy, seed {ran['seed']}, {began}"
    return f"{line}, {ran['gpu']}" if ran["gpu"] else line


def _facts(summary: Row, ran: Row) -> list[tuple[str, str]]:
    """The headline: best, distance to the record, size, validity, time, cost."""
    facts = [("best score", "none yet" if summary["best"] is None else number(summary["best"]))]
    if summary["best_seed"] is not None:
        facts.append(("best seed", number(summary["best_seed"])))
    if ran["record"] is not None:
        facts.append((f"record, {ran['record_holder']}", number(ran["record"])))
    facts += [("steps", str(summary["steps"])), ("attempts", text(summary["attempts"]))]
    if summary["valid_fraction"] is not None:
        facts.append(("valid", f"{100 * summary['valid_fraction']:.1f} %"))
    facts.append(("time in stages", duration(summary["seconds"])))
    if summary["money"]:
        facts.append(("money", f"{summary['money']:.2f}"))
    return facts


def _section(
    question: Question,
    columns: list[str],
    rows: list[tuple[Any, ...]],
    drawn: list[tuple[str, str]],
    diffs: list[tuple[str, list[tuple[str, str]]]],
) -> Section:
    shown = [i for i, name in enumerate(columns) if name not in DRAWN]
    cells = [[Cell(text(row[i]), _full(row[i])) for i in shown] for row in rows]
    right = [all(isinstance(row[i], int | float | None) for row in rows) for i in shown]
    visible = [chart for chart in drawn if chart[1]]
    return Section(question, [columns[i] for i in shown], cells, right, visible, diffs)


def _full(value: object) -> str:
    return repr(value) if isinstance(value, float) else "" if value is None else str(value)
