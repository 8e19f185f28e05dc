"""A run's report: the questions asked, and the page and the markdown made of the answers.

Nothing is loaded from anywhere, there is no script, and every text that a candidate or a model
wrote is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eurekaflow.flows import report_charts
from eurekaflow.flows.rendering import duration, number, records, text
from eurekaflow.flows.trust import FOREIGN
from eurekaflow.models import report_questions as questions
from eurekaflow.models.questions import ask
from eurekaflow.models.report_questions import Question

if TYPE_CHECKING:
    from eurekaflow.verifiers.problem import Construction, Problem

Row = dict[str, Any]
OPEN = {"Records", "Failures", "Best of N"}  # tables shown without a click


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

    def markdown(self) -> str:
        """The same numbers as text; what candidates wrote stays in indented blocks."""
        lines = [f"# {self.title}", "", f"run {self.run}, {self.state}, {self.facts_line}", ""]
        lines += [f"**{FOREIGN}**", ""] if self.foreign else []
        lines += [f"- {name}: **{value}**" for name, value in self.facts]
        lines += ["", self.diagnosis] if self.diagnosis else []
        for section in self.sections:
            lines += ["", f"## {section.question.title}", "", section.question.shows, ""]
            lines += _markdown_table(section)
            for name, diff in section.diffs:
                lines += ["", f"{name}:", "", *(f"    {line}" for _, line in diff)]
        return "\n".join(lines) + "\n"


def build(
    url: str,
    run: Row,
    problem: Problem | None,
    compare: Mapping[str, Construction] | None = None,
) -> Report:
    """Ask the questions of the run and draw the answers. `run` is a row of questions.RUN."""
    answers = {q.title: ask(url, q.sql, run=run["run"]) for q in questions.QUESTIONS}
    rows = {title: records(*answer) for title, answer in answers.items()}
    drawn: dict[str, list[tuple[str, str]]] = {
        "Best so far": report_charts.best(rows),
        "Reward distributions": report_charts.rewards(rows, problem),
        "Health": report_charts.health(rows["Health"]),
        "Lineage of the best": report_charts.picture(url, run, problem, compare or {}),
    }
    diffs = {"Lineage of the best": report_charts.diffs(rows["Lineage of the best"])}
    sections = [
        _section(q, *answers[q.title], drawn.get(q.title, []), diffs.get(q.title, []))
        for q in questions.QUESTIONS
    ]
    summary = rows["The run in numbers"][0]
    title = (problem.title if problem is not None else "") or run["problem"]
    return Report(
        run=str(run["run"]),
        title=title,
        state=run["state"],
        facts_line=_facts_line(run),
        facts=_facts(run, summary, rows),
        sections=sections,
        diagnosis=run["message"] or "",
        foreign=run["trust"] == "foreign",
    )


def _facts_line(run: Row) -> str:
    config, hardware = run["config"], run["hardware"]
    machine = hardware.get("gpu") or hardware.get("cpu") or hardware.get("processor") or ""
    began = text(run["started_at"]) or "not started"
    model = Path(config.get("model", "")).name  # a path's last part says enough
    return f"{run['problem']}, {model} policy, seed {run['seed']}, {began}" + (
        f", {machine}" if machine else ""
    )


def _facts(run: Row, summary: Row, rows: Mapping[str, list[Row]]) -> list[tuple[str, str]]:
    """The headline: best, distance to the record, size, validity, time, cost."""
    facts = [("best score", "none yet" if summary["best"] is None else number(summary["best"]))]
    if summary["best_seed"] is not None:
        facts.append(("best seed", number(summary["best_seed"])))
    if run["record"] is not None:
        facts.append((f"record, {run['record_holder']}", number(run["record"])))
    facts += [("steps", str(summary["steps"])), ("attempts", text(summary["attempts"]))]
    if summary["valid_fraction"] is not None:
        facts.append(("valid", f"{100 * summary['valid_fraction']:.1f} %"))
    facts.append(("time in stages", duration(sum(r["seconds"] or 0 for r in rows["Cost"]))))
    money = sum(r["money"] or 0 for r in rows["Cost"])
    return [*facts, ("money", f"{money:.2f}")] if money else facts


def _section(
    question: Question,
    columns: list[str],
    rows: list[tuple[Any, ...]],
    drawn: list[tuple[str, str]],
    diffs: list[tuple[str, list[tuple[str, str]]]],
) -> Section:
    shown = [i for i, name in enumerate(columns) if name != "program"]
    cells = [[Cell(text(row[i]), _full(row[i])) for i in shown] for row in rows]
    right = [all(isinstance(row[i], int | float | None) for row in rows) for i in shown]
    visible = [chart for chart in drawn if chart[1]]
    return Section(question, [columns[i] for i in shown], cells, right, visible, diffs)


def _full(value: object) -> str:
    return repr(value) if isinstance(value, float) else "" if value is None else str(value)


def _markdown_table(section: Section) -> list[str]:
    if not section.rows:
        return ["Nothing."]
    lines = [_markdown_row(section.columns), _markdown_row(["---"] * len(section.columns))]
    return lines + [_markdown_row([cell.text for cell in row]) for row in section.rows]


def _markdown_row(cells: Sequence[str]) -> str:
    """Cells as text: a bar, a tag or a line break in a message stays text."""
    plain = (c.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for c in cells)
    return "| " + " | ".join(c.replace("<", "&lt;").replace("`", "'") for c in plain) + " |"
