"""What Prefect's page shows of a run: progress, a table of steps, the best answer."""

from __future__ import annotations

import contextvars
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from eurekaflow.flows import report
from eurekaflow.flows.report_text import markdown, plain
from eurekaflow.models.overview import StepSummary
from eurekaflow.tasks import session
from eurekaflow.tasks.session import Session
from eurekaflow.verifiers.problem import TRAINING

if TYPE_CHECKING:
    from eurekaflow.flows.report_page import Report

_progress: dict[str, UUID] = {}  # run -> its progress artifact in this flow run
_beside = ThreadPoolExecutor(1, thread_name_prefix="artifacts")
_refreshing: dict[str, Future[None]] = {}


def publish_step(run_id: str, step: int) -> None:
    """Tell of a step, and refresh the run's artifacts beside the next one."""
    s = session.of(run_id)
    s.notify("step", step=step, metrics=in_scores(s, s.archive.step_summary(s.run.id, step)))
    await_artifacts(run_id)
    around = contextvars.copy_context()  # which flow run the artifacts are of
    _refreshing[run_id] = _beside.submit(around.run, _refresh, s, run_id, step)


def await_artifacts(run_id: str) -> None:
    """Return once the artifacts of the last step told are written."""
    if (running := _refreshing.pop(run_id, None)) is not None:
        running.result()


def _refresh(s: Session, run_id: str, step: int) -> None:
    """A Prefect fault is a note, never a failure; and nothing to a run that was let go."""
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):  # a dead server is no matter
            _publish(s, run_id, step)
    except Exception as error:
        if session.opened(run_id) is s:
            text = f"Prefect artifacts not written: {error}"
            s.notify("note", step=step, metrics={"text": text})


def _publish(s: Session, run_id: str, step: int) -> None:
    percent, short = 100.0 * done(s, step), run_id[:8]
    of_run = f"of {s.problem.name}, run {short}"
    if run_id not in _progress:
        made = create_progress_artifact(
            progress=percent, key=f"progress-{short}", description=f"Budget used {of_run}"
        )
        assert isinstance(made, UUID)  # in a synchronous flow the call is not a coroutine
        _progress[run_id] = made
    else:
        update_progress_artifact(artifact_id=_progress[run_id], progress=percent)
    create_table_artifact(table=step_table(s), key=f"steps-{short}", description=f"Steps {of_run}")
    create_markdown_artifact(
        markdown=best_answer(s), key=f"best-{short}", description=f"Best answer {of_run}"
    )


def publish_report(run_id: str) -> None:
    """Write the run's report beside the archive and show it on Prefect's page; never a failure."""
    s = session.of(run_id)
    await_artifacts(run_id)
    fault = "the report was not written"
    try:
        made = report.of_run(s.place.database_url, run_id)
        page, _ = report.write(made, s.place.home / "reports")
        fault = "the report is not on Prefect's page"
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            _show(s, made, page.absolute())
    except Exception as error:
        s.notify("note", metrics={"text": f"{fault}: {error}"})


def _show(s: Session, made: Report, page: Path) -> None:
    """The report as markdown, and a link to its page, whose text is the address to copy."""
    of_run = f"of {s.problem.name}, run {made.short}"
    text = markdown(made, pictures=True)
    create_markdown_artifact(
        markdown=f"{text}\nThe page with everything: {plain(str(page))}\n",
        key=f"report-{made.short}",
        description=f"Report {of_run}",
    )
    create_link_artifact(
        link=page.as_uri(),
        link_text=plain(page.as_uri()),
        key=f"report-page-{made.short}",
        description=f"Report page {of_run}: copy the address, browsers block a click on it",
    )


def done(s: Session, step: int) -> float:
    """How much of the run's budget is used, 0 to 1, by whichever bound is nearer."""
    steps = (step + 1) / s.config.steps
    if s.config.minutes is None or step + 1 < s.config.min_steps:
        return min(1.0, steps)
    return min(1.0, max(steps, s.archive.seconds_spent(s.run.id) / (60 * s.config.minutes)))


def in_scores(s: Session, summary: StepSummary) -> dict[str, Any]:
    """A step's numbers as people read them: scores instead of values, the gap to the record."""
    record = s.problem.record(mode=TRAINING)
    best = summary.best_so_far
    gap = None if best is None or record is None else s.problem.value(record.score) - best
    return {
        "best_score": None if best is None else s.problem.score(best),
        "record_gap": gap,
        "attempts": summary.attempts,
        "valid_fraction": summary.valid / summary.attempts if summary.attempts else None,
        "distinct": summary.distinct,
        "mean_reward": summary.mean_reward,
        "beta": summary.beta,
        "kl": summary.metrics.get("kl_policy_base"),
        "logprob_gap": summary.metrics.get("logprob_gap_mean"),
        "seconds": summary.seconds,
    }


def step_table(s: Session) -> list[dict[str, Any]]:
    """One row per step, newest last."""
    rows = []
    for row in s.archive.step_rows(s.run.id):
        numbers = in_scores(s, s.archive.step_summary(s.run.id, row.step))
        seconds = sum(numbers.pop("seconds").values())
        short = {name: _short(number) for name, number in numbers.items()}
        rows.append({"step": row.step, **short, "seconds": round(seconds, 1)})
    return rows


def _short(number: Any) -> Any:
    """Six digits: what a table on a page has room for; the archive keeps the rest."""
    return float(f"{number:.6g}") if isinstance(number, float) else number


def best_answer(s: Session) -> str:
    """The best attempt so far as markdown; candidate text stays inside an indented block."""
    best = s.archive.best(s.run.id)
    if best is None:
        return f"# {plain(s.problem.title or s.problem.name)}\n\nNo valid attempt yet."
    score = s.problem.score(best.value) if best.value is not None else float("nan")
    program = s.archive.program(best.id) or ""
    code = "\n".join("    " + line for line in program.splitlines())
    return (
        f"# {plain(s.problem.title or s.problem.name)}\n\n"
        f"Best {s.problem.metric}: **{score:.10g}** (step {best.step}, attempt {best.id})\n\n"
        f"{code}\n"
    )
