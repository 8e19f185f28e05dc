"""The drawings of a report: charts of its answers, the best answer's picture, program diffs."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eurekaflow.flows import charts
from eurekaflow.flows.rendering import number
from eurekaflow.models.errors import UsageError

if TYPE_CHECKING:
    from eurekaflow.verifiers.problem import Construction, Problem

Row = dict[str, Any]
BINS = 20  # as in the question
Named = list[tuple[str, str]]  # caption and SVG


def best(rows: Mapping[str, list[Row]]) -> Named:
    found = rows["Best so far"]
    series = [
        charts.Series("best so far", _points(found, "best_score")),
        charts.Series("best of the step", _points(found, "score"), dots=True),
    ]
    levels = []
    for kind, name in (("human", "best human"), ("ai", "best AI")):
        best = next((r for r in rows["Records"] if r["kind"] == kind), None)
        if best is not None:
            levels.append(charts.Level(f"{name} {number(best['score'])}", best["score"]))
    chart = charts.line_chart(series, x_label="step", y_label="score", levels=levels)
    return [("", chart)]


def rewards(rows: Mapping[str, list[Row]], problem: Problem | None) -> Named:
    """One histogram per shown step, on shared bins; the best-of-N run's as a line over each."""
    found = rows["Reward distributions"]
    bins = [r for r in found if r["bin"] > 0]
    if not bins:
        return []
    low, high = bins[0]["low"], bins[0]["high"]
    top = max((r["attempts"] for r in bins if r["step"] is not None), default=0)
    beside = [r for r in found if r["step"] is None]
    marks = _marks(rows, problem)
    drawn = []
    for step in sorted({r["step"] for r in found} - {None}):
        here = [r for r in found if r["step"] == step]
        total, failed = here[0]["of_step"], here[0]["failed_fraction"]
        caption = f"step {step}: {total} attempts, {100 * failed:.1f} % failed"
        line = _scaled(beside, total)
        if line:
            n, lost = beside[0]["of_step"], beside[0]["failed_fraction"]
            caption += f"; line: best of N, {n} attempts, {100 * lost:.1f} % failed"
        chart = charts.histogram(
            _counts(here),
            low,
            high,
            x_label="reward",
            marks=marks,
            top=max([top, *map(math.ceil, line)]),
            line=line,
        )
        drawn.append((caption, chart))
    return drawn


def _marks(rows: Mapping[str, list[Row]], problem: Problem | None) -> list[charts.Level]:
    """The best human, and the best of the best-of-N runs, as rewards."""
    if problem is None:
        return []
    human = next((r["score"] for r in rows["Records"] if r["kind"] == "human"), None)
    found = [r["score"] for r in rows["Best of N"] if r["score"] is not None]
    other = max(found, key=problem.value, default=None)
    named = (("best human", human), ("best of N", other))
    return [
        charts.Level(name, problem.reward(problem.value(score)))
        for name, score in named
        if score is not None
    ]


def _counts(rows: list[Row]) -> list[int]:
    by_bin = {r["bin"]: r["attempts"] for r in rows}
    return [by_bin.get(place, 0) for place in range(1, BINS + 1)]


def _scaled(rows: list[Row], total: int) -> list[float]:
    """The other run's distribution as if it had `total` attempts; empty where there is none."""
    if not rows:
        return []
    return [count * total / rows[0]["of_step"] for count in _counts(rows)]


HEALTH = (
    ("valid_fraction", "valid fraction"),
    ("beta", "beta"),
    ("kl", "KL from uniform"),
    ("kl_policy_base", "KL to the base"),
    ("surprise", "nats per sampled token"),
    ("distinct_programs", "distinct programs"),
    ("seconds", "seconds per step"),
)


def health(rows: list[Row]) -> Named:
    return [
        (
            words,
            charts.line_chart(
                [charts.Series(words, _points(rows, name))],
                x_label="step",
                y_label=words,
                width=340,
                height=180,
            ),
        )
        for name, words in HEALTH
    ]


def _points(rows: list[Row], name: str, *, over: str = "step") -> list[tuple[float, float]]:
    return [(float(r[over]), float(r[name])) for r in rows if r[name] is not None]


def picture(
    short: str, found: list[Row], problem: Problem | None, compare: Mapping[str, Construction]
) -> Named:
    """The problem's own drawing of the best answer, beside whatever it is compared with."""
    best = found[0] if found else None
    drawing = ""
    if problem is not None and best is not None and best["construction"] is not None:
        import numpy as np

        ours = np.asarray(best["construction"], dtype=np.float64)
        drawing = _drawn(problem, {**compare, f"run {short}, {number(best['score'])}": ours})
    if compare and not drawing:
        raise UsageError("this run has no picture to compare with", "leave --compare out")
    return [("", drawing)] if drawing else []


def _drawn(problem: Problem, named: Mapping[str, Construction]) -> str:
    """Constructions over each other. Raises UsageError, which names those of another kind."""
    try:
        return problem.picture(named)
    except ValueError as error:
        bad = [name for name, one in named.items() if not _drawable(problem, name, one)]
        raise UsageError(
            f"{', '.join(bad) or 'these'} cannot be drawn as {problem.name}'s: {error}",
            "compare with constructions of the same problem",
        ) from None


def _drawable(problem: Problem, name: str, construction: Construction) -> bool:
    try:
        return bool(problem.picture({name: construction}))
    except ValueError:
        return False


def case_times(rows: list[Row]) -> Named:
    """A kernel's time in every case beside its reference's; nothing for what is no kernel."""
    series = [
        charts.Series(name, _points(rows, key, over="case_number"), dots=True)
        for name, key in (("this kernel", "kernel_us"), ("reference", "reference_us"))
    ]
    chart = charts.line_chart(series, x_label="case", y_label="microseconds")
    return [("time of the best kernel in every case", chart)] if chart else []


def diffs(lineage: list[Row]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What each generation changed in its parent's program; the first is shown whole."""
    found = []
    before: list[str] = []
    for row in lineage:
        now = (row["program"] or "").splitlines()
        score = "" if row["score"] is None else f", score {number(row['score'])}"
        where = "seed" if row["step"] < 0 else f"step {row['step']}"
        name = f"generation {row['generation']}: {where}, attempt {row['attempt']}{score}"
        found.append((name, _diff(before, now)))
        before = now
    return found


def _diff(before: list[str], now: list[str]) -> Named:
    if not before or before == now:
        return [("ctx", line) for line in now] or [("ctx", "(no program)")]
    kinds = {"+": "add", "-": "del"}
    lines = list(difflib.unified_diff(before, now, lineterm="", n=3))[2:]
    return [(kinds.get(line[:1], "ctx"), line) for line in lines]
