"""What Prefect's page shows of a run: progress, a table of steps, the best answer."""

from __future__ import annotations

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from eurekaflow.tasks import session
from eurekaflow.tasks.session import Session

_progress: dict[str, object] = {}  # run -> its progress artifact in this flow run


def publish_step(run_id: str, step: int) -> None:
    """Refresh the run's artifacts after a step. A Prefect fault is a note, never a failure."""
    s = session.of(run_id)
    s.notify("step", step=step, metrics=s.archive.step_summary(s.run.id, step))
    try:
        _publish(s, run_id, step)
    except Exception as error:
        s.notify("note", step=step, metrics={"text": f"Prefect artifacts not written: {error}"})


def _publish(s: Session, run_id: str, step: int) -> None:
    percent = 100.0 * (step + 1) / s.config.steps
    if run_id not in _progress:
        _progress[run_id] = create_progress_artifact(
            progress=percent, key=f"progress-{run_id}", description=f"{s.problem.name}"
        )
    else:
        update_progress_artifact(artifact_id=_progress[run_id], progress=percent)  # type: ignore[arg-type]
    create_table_artifact(table=s.archive.step_table(s.run.id), key=f"steps-{run_id}")
    create_markdown_artifact(markdown=best_answer(s), key=f"best-{run_id}")


def best_answer(s: Session) -> str:
    """The best attempt so far as markdown; candidate text stays inside an indented block."""
    best = s.archive.best(s.run.id)
    if best is None:
        return f"# {s.problem.title or s.problem.name}\n\nNo valid attempt yet."
    score = s.problem.score(best.value)
    code = "\n".join("    " + line for line in s.archive.program(best.id).splitlines())
    return (
        f"# {s.problem.title or s.problem.name}\n\n"
        f"Best {s.problem.metric}: **{score:.10g}** (step {best.step}, attempt {best.id})\n\n{code}\n"
    )
