"""Algorithm 1 as one flow. Starting and resuming a run are the same call.

Per step: choose parents by PUCT, sample a group from each, verify in the sandbox, archive, train
on the entropic objective, commit. Every stage asks the archive what is missing, so a flow that
died anywhere continues there.
"""

from __future__ import annotations

from collections.abc import Iterator

from prefect import flow, runtime

from eurekaflow.flows.artifacts import publish_report, publish_step
from eurekaflow.flows.cancelling import stop_when_cancelled
from eurekaflow.tasks import session
from eurekaflow.tasks.archive import archive
from eurekaflow.tasks.checkpoint import checkpoint
from eurekaflow.tasks.plan import plan
from eurekaflow.tasks.sample import sample
from eurekaflow.tasks.seed import seed
from eurekaflow.tasks.session import Session
from eurekaflow.tasks.update import update
from eurekaflow.tasks.verify import verify


def _title() -> str:
    """What Prefect's pages call the flow run: the problem and the run."""
    run_id = runtime.flow_run.parameters["run_id"]
    return f"{session.of(run_id).problem.name} {run_id[:8]}"


@flow(name="discover", flow_run_name=_title, persist_result=False)
def discover(run_id: str) -> None:
    """Run or resume the run `run_id` (a uuid in the archive) to the end of its budget."""
    seed(run_id)
    for step in remaining(run_id):
        plan(run_id, step)
        sample(run_id, step)
        verify(run_id, step)
        archive(run_id, step)
        update(run_id, step)
        checkpoint(run_id, step)
        publish_step(run_id, step)
    publish_report(run_id)


def remaining(run_id: str) -> Iterator[int]:
    """Steps still to do, the unfinished one first, until steps or minutes are used up.

    A step is not begun when more than half of it would lie beyond the minutes.
    """
    s = session.of(run_id)
    while True:
        step = s.archive.progress(s.run.id).step
        if step >= s.config.steps:
            return
        if step >= s.config.min_steps and out_of_time(s, step):
            return
        stop_when_cancelled()
        yield step


def out_of_time(s: Session, step: int) -> bool:
    """Whether less than half a step fits into what is left of the minutes."""
    if s.config.minutes is None:
        return False
    spent = s.archive.seconds_spent(s.run.id)
    return spent + 0.5 * spent / max(step, 1) > 60 * s.config.minutes
