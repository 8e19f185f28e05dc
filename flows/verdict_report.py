"""A verdict as a report: for programs as JSON, for people as a table beside the records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eurekaflow.flows.trust import told

if TYPE_CHECKING:
    from eurekaflow.verifiers.problem import Problem, Verdict


def printed(problem: Problem, exact: str, *, digits: int = 12) -> str:
    """An exact score as a decimal, rounded to its worse side, so the decimal is proven too."""
    from fractions import Fraction
    from math import ceil, floor

    scaled = Fraction(exact) * 10**digits
    whole = ceil(scaled) if problem.direction == "min" else floor(scaled)
    sign, figures = "-" if whole < 0 else "", str(abs(whole)).zfill(digits + 1)
    towards = "up" if problem.direction == "min" else "down"
    return f"{sign}{figures[:-digits]}.{figures[-digits:]} (rounded {towards})"


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How an answer stands against a published record; `ahead` > 0 is better than it."""

    holder: str
    score: float
    kind: str
    role: str
    mode: str
    source: str
    ahead: float


def metric_of(problem: Problem) -> str:
    """What the score is called, with a contest's cases."""
    from eurekaflow.verifiers.contest import Contest

    return (
        f"sum over {problem.described_cases}" if isinstance(problem, Contest) else problem.metric
    )


def scored(problem: Problem, verdict: Verdict, *, mode: str) -> dict[str, Any]:
    """A verdict as a report: what JSON output holds."""
    valid = verdict.value is not None
    return {
        "problem": problem.name,
        "valid": valid,
        "outcome": str(verdict.outcome),
        "metric": metric_of(problem),
        "score": None if verdict.value is None else problem.score(verdict.value),
        "value": verdict.value,
        "reward": verdict.reward,
        "exact": verdict.exact or None,
        "proven": printed(problem, verdict.exact) if verdict.exact else None,
        "mode": verdict.mode or mode,
        "trust": problem.trust,
        "message": verdict.message,
        "metrics": dict(verdict.metrics),
        "records": [vars(d) for d in distances(problem, verdict.value, mode=mode)],
        "stdout": verdict.stdout,
    }


def distances(problem: Problem, value: float | None, *, mode: str) -> list[Distance]:
    """The distance of a value to each comparable record, in units of the score."""
    if value is None:
        return []
    sign = -1 if problem.direction == "min" else 1
    return [
        Distance(
            holder=record.holder,
            score=record.score,
            kind=record.kind,
            role=record.role,
            mode=record.mode,
            source=record.source,
            ahead=sign * (problem.score(value) - record.score),
        )
        for record in problem.comparable(mode=mode)
    ]


def print_report(report: dict[str, Any]) -> None:
    """A report for people."""
    from eurekaflow.flows.rendering import print_pairs, print_table, printable

    score, value = report["score"], report["value"]
    gates = "all passed" if report["valid"] else report["message"] or report["outcome"]
    pairs = [
        ("verdict", report["outcome"]),
        (report["metric"], None if score is None else f"{score:.12g}"),
        ("value", None if value is None or value == score else f"{value:.12g}"),
        ("gates", gates),
        ("mode", report["mode"]),
        ("trust", told(report["trust"])),
        ("measured on", report["message"] if report["valid"] else None),
        ("proven", report["proven"]),
        *((name, measured) for name, measured in report["metrics"].items()),
    ]
    print_pairs(pairs)
    if report["stdout"] and not report["valid"]:
        print(f"output of the program:\n{printable(report['stdout'])}")
    rows = [
        (r["holder"], r["role"] or r["kind"], f"{r['score']:.10g}", standing(r["ahead"]))
        for r in report["records"]
    ]
    if rows:
        print_table(("record", "of", report["metric"], "this answer"), rows)


def standing(ahead: float) -> str:
    """An answer's distance to a record in words."""
    if ahead == 0:
        return "equal"
    return f"{abs(ahead):.3g} {'better' if ahead > 0 else 'worse'}"
