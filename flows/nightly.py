"""One night of a schedule as one flow: resume what crashed, then go on by the schedule's policy.

Every deployment of a schedule runs `nightly`; its signature is what Prefect's page shows, checks
and lets one edit. `continue_run` is for workers that continue a single run by its id. Which night
it is, and what has been done in it, stands in the archive: a retry goes on there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from eurekaflow.flows.night_plan import DUE_TAG, NIGHT_TAG, Budget, Due, Plan, Policy, Setting
from eurekaflow.flows.night_work import spend_night, tell
from eurekaflow.models.archive import Archive

FLOW = "eurekaflow.flows.nightly.nightly"


@flow(name="nightly", flow_run_name="{schedule}", persist_result=False)
def nightly(
    schedule: str,
    problem: Annotated[str, Field(description="name of a problem, or path of a problem file")],
    policy: Policy = "continue",
    until: Annotated[
        str | None, Field(pattern=r"^\d\d:\d\d(:\d\d)?$", description="time of day, 07:00")
    ] = None,
    most_resumes: Annotated[int, Field(ge=0, description="resumes without progress")] = 3,
    budget: Annotated[Budget, Field(description="of one night")] = Budget(),  # noqa: B008
    settings: Annotated[dict[str, Setting], Field(description="of new runs")] = {},  # noqa: B006
) -> str:
    """One night: first resumes what crashed, then goes on or starts a run by the policy."""
    plan = Plan(
        problem=problem,
        policy=policy,
        until=until,
        most_resumes=most_resumes,
        budget=budget,
        settings=settings,
    )
    return spend_night(schedule, plan, due=which_night, flow_run=flow_run.get_id())


@flow(name="continue", flow_run_name="continue {run_id}", persist_result=False)
def continue_run(run_id: str, steps: int | None = None) -> str:
    """Continue a run of the archive, by its id, to the end of its budget; how it stands."""
    from eurekaflow.flows import launch
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.running import summary_text
    from eurekaflow.flows.standing import Goals

    return summary_text(
        launch.resume(
            run_id, surroundings(), goals=Goals(steps=steps) if steps else None, listener=tell
        )
    )


def which_night(archive: Archive) -> int | Due | None:
    """The night that Prefect's flow run stands for: a known one's number, a due one, or None.

    None: the archive decides whether one is due.
    """
    here = flow_run.get_id()
    if here is not None and (known := archive.night_of_flow_run(here)) is not None:
        return known.id
    for tag in flow_run.get_tags():
        if tag.startswith(NIGHT_TAG) and tag.removeprefix(NIGHT_TAG).isdigit():
            return int(tag.removeprefix(NIGHT_TAG))
    if DUE_TAG in flow_run.get_tags():
        return None
    now = datetime.now(UTC)
    return Due(now, "by_hand", now)
