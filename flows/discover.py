"""Algorithm 1 as one flow. Starting and resuming a run are the same call.

Per step: choose parents by PUCT, sample a group from each, verify in the sandbox, archive, train
on the entropic objective, commit. Every stage asks the archive what is missing, so a flow that
died anywhere continues there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prefect import State, flow, runtime
from prefect.states import Cancelled

from eurekaflow.flows.artifacts import publish_report, publish_step
from eurekaflow.flows.ending import conclude, ending
from eurekaflow.tasks import session
from eurekaflow.tasks.archive import archive
from eurekaflow.tasks.checkpoint import checkpoint, keep
from eurekaflow.tasks.plan import plan
from eurekaflow.tasks.sample import sample
from eurekaflow.tasks.seed import seed
from eurekaflow.tasks.session import Session
from eurekaflow.tasks.update import update
from eurekaflow.tasks.verify import verify

STAGES: dict[str, Callable[[str, int], object]] = {
    "plan": plan,
    "sample": sample,
    "verify": verify,
    "archive": archive,
    "update": update,
    "checkpoint": checkpoint,
}


def _title() -> str:
    """What Prefect's pages call the flow run: the problem and the run."""
    run_id = runtime.flow_run.parameters["run_id"]
    return f"{session.of(run_id).problem.name} {run_id[:8]}"


@flow(name="discover", flow_run_name=_title, persist_result=False)
def discover(run_id: str) -> State[Any] | None:
    """Run or resume the run `run_id` (a uuid in the archive) to the end of its budget."""
    seed(run_id)
    for step, stage in todo(run_id):
        STAGES[stage](run_id, step)
        if stage == "checkpoint":
            publish_step(run_id, step)
    keep(session.of(run_id))
    conclude(session.of(run_id))
    publish_report(run_id)
    return final_state(run_id)


def todo(run_id: str) -> Iterator[tuple[int, str]]:
    """Steps and stages still to do, until a rule ends the run; the session keeps which one."""
    s = session.of(run_id)
    for step in remaining(run_id):
        for stage in STAGES:
            s.ending = ending(s, step, stage)
            if s.ending is not None:
                s.notify("note", step=step, metrics={"text": s.ending.message})
                return
            yield step, stage


def final_state(run_id: str) -> State[Any] | None:
    """The flow run's state after a rule ended it: cancelled if that was the reason."""
    found = session.of(run_id).ending
    if found is not None and found.rule == "cancelled":
        return Cancelled(message=found.message)
    return None


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
        yield step


def out_of_time(s: Session, step: int) -> bool:
    """Whether less than half a step fits into what is left of the minutes."""
    if s.config.minutes is None:
        return False
    spent = s.archive.seconds_spent(s.run.id)
    return spent + 0.5 * spent / max(step, 1) > 60 * s.config.minutes
