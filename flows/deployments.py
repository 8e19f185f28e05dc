"""Prefect's side of the schedules: work pool, deployments, automations; made again when lost.

The archive is the truth. A deployment's version is the schedule's revision: an older one is
replaced by ours; where they agree, a difference was edited on Prefect's page and is taken over,
once it has passed our checks.

The next night of each schedule stands in Prefect as a scheduled flow run that we make. Prefect's
own scheduler is left off: it reads clock changes differently under different Python versions,
and Prefect 3.8 fails to insert its runs under SQLAlchemy 2.1.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterName,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.states import Crashed, Failed, Scheduled
from prefect.utilities.callables import parameter_schema

from eurekaflow.flows.automations import ensure_automations
from eurekaflow.flows.night_plan import DUE_TAG, plan_of
from eurekaflow.flows.nightly import FLOW, continue_run, nightly
from eurekaflow.flows.prefect_server import HEARTBEATS
from eurekaflow.flows.prefect_tags import NIGHTLY, OURS
from eurekaflow.models import cron
from eurekaflow.models.archive import Archive
from eurekaflow.models.errors import UsageError
from eurekaflow.models.nights import ScheduleRow

POOL = "eureka"
TAGS = [OURS, NIGHTLY]  # of what belongs to a schedule
JOB = {"env": HEARTBEATS}  # a worker on another machine may know nothing of ours
NIGHT = timedelta(hours=23)  # within which Prefect and the service try to begin one
CONTINUE = "eurekaflow.flows.nightly.continue_run"


def synchronise(archive: Archive, now: datetime) -> list[str]:
    """Make Prefect show the archive's schedules; what was changed, in words."""
    with get_client(sync_client=True) as client:
        done = [*ensure_pool(client), *ensure_automations()]
        there = {d.name: d for d in deployments(client)}
        rows = {row.name: row for row in archive.schedules()}
        for name, row in rows.items():
            done += match(client, archive, row, there.get(name))
            announce(client, archive.schedule(name), now)
        for name in there.keys() - rows.keys():
            client.delete_deployment(there[name].id)
            done.append(f"removed {name}")
    return done


def deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """The deployments of our schedules."""
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[NIGHTLY]))
    return client.read_deployments(deployment_filter=ours)


def match(
    client: SyncPrefectClient, archive: Archive, row: ScheduleRow, found: DeploymentResponse | None
) -> list[str]:
    """Make one deployment and one schedule agree."""
    if found is None or found.version != str(row.revision) or not {*TAGS} <= {*found.tags}:
        deploy(client, row)
        return [f"deployed {row.name}"]
    try:
        edited = edits(row, found)
        if not edited:
            return []
        changed = archive.change_schedule(row.name, **checked(edited))
    except UsageError as error:
        deploy(client, row)
        return [f"{row.name}: the edit on Prefect's page was refused: {error.message}"]
    deploy(client, changed)
    return [f"{row.name}: took over {', '.join(sorted(edited))} from Prefect's page"]


def edits(row: ScheduleRow, found: DeploymentResponse) -> dict[str, Any]:
    """What the deployment says otherwise than the schedule. Raises UsageError for no plan."""
    said: dict[str, Any] = {}
    parameters = {k: v for k, v in (found.parameters or {}).items() if k != "schedule"}
    if plan_of({**row.plan, **parameters}) != plan_of(row.plan):
        said["plan"] = {**row.plan, **parameters}
    if bool(found.paused) != row.paused:
        said["paused"] = bool(found.paused)
    for entry in found.schedules:
        if entry.active:  # the switch on Prefect's page; its scheduler must not make nights too
            said["paused"] = False
        line = entry.schedule
        if isinstance(line, CronSchedule) and line.cron != row.cron:
            said["cron"] = line.cron
        if isinstance(line, CronSchedule) and line.timezone not in (None, row.timezone):
            said["timezone"] = line.timezone
    return said


def checked(edited: dict[str, Any]) -> dict[str, Any]:
    """The edits, if they can be. Raises UsageError."""
    if "cron" in edited:
        cron.parse(edited["cron"])
    if "timezone" in edited:
        cron.zone_named(edited["timezone"])
    if "plan" in edited:
        edited["plan"] = plan_of(edited["plan"]).model_dump(mode="json")
    return edited


def deploy(client: SyncPrefectClient, row: ScheduleRow) -> UUID:
    """Make or replace the deployment of a schedule."""
    timing = DeploymentScheduleCreate(
        schedule=CronSchedule(cron=row.cron, timezone=row.timezone), active=False
    )
    made = client.create_deployment(
        flow_id=client.create_flow(nightly),
        name=row.name,
        version=str(row.revision),
        schedules=[timing],
        parameters={"schedule": row.name, **plan_of(row.plan).model_dump(mode="json")},
        parameter_openapi_schema=parameter_schema(nightly).model_dump(),
        enforce_parameter_schema=True,
        description=nightly.__doc__,
        entrypoint=FLOW,
        work_pool_name=POOL,
        job_variables=JOB,
        tags=TAGS,
        paused=row.paused,
    )
    for run in waiting(client, made):
        client.delete_flow_run(run.id)
    return made


def waiting(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    """The flow runs of a deployment that stand for nights to come."""
    return client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Scheduled", "Late"])),
            tags=FlowRunFilterTags(all_=[DUE_TAG]),
        ),
    )


def why_not(name: str, due: datetime) -> str:
    """How Prefect's flow run for a night that was due then broke; empty when it knows of none."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])),
            flow_run_filter=FlowRunFilter(
                tags=FlowRunFilterTags(all_=[DUE_TAG]),
                expected_start_time=FlowRunFilterExpectedStartTime(
                    after_=due, before_=due + NIGHT
                ),
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=5,
        )
        past = [state for run in found for state in client.read_flow_run_states(run.id)]
    broken = [state for state in past if state.is_failed() or state.is_crashed()]
    return f"{broken[-1].name}: {broken[-1].message}" if broken else ""


def announce(client: SyncPrefectClient, row: ScheduleRow, now: datetime) -> None:
    """Have the next night stand in Prefect, where a worker begins it when it is due."""
    if row.paused:
        return
    due = cron.parse(row.cron).following(now, cron.zone_named(row.timezone))
    found = client.read_deployment_by_name(f"{nightly.name}/{row.name}")
    client.create_flow_run_from_deployment(
        found.id,
        state=Scheduled(scheduled_time=due),
        tags=[*TAGS, DUE_TAG],
        idempotency_key=f"{row.id}-{row.revision}-{due.isoformat()}",
    )


def ensure_pool(client: SyncPrefectClient) -> list[str]:
    """The work pool, for one night at a time, and the deployment that continues a run."""
    done = []
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        pool = WorkPoolCreate(
            name=POOL, type="process", concurrency_limit=1, description="one run at a time"
        )
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(pool)
            done.append(f"made the work pool {POOL}")
    try:
        if OURS in client.read_deployment_by_name(f"{continue_run.name}/continue").tags:
            return done
    except ObjectNotFound:
        pass
    client.create_deployment(
        flow_id=client.create_flow(continue_run),
        name="continue",
        entrypoint=CONTINUE,
        work_pool_name=POOL,
        job_variables=JOB,
        tags=[OURS],
        parameter_openapi_schema=parameter_schema(continue_run).model_dump(),
        enforce_parameter_schema=True,
        description=continue_run.__doc__,
    )
    return [*done, "deployed continue"]


def declare_crashed(flow_run_id: str) -> bool:
    """Tell Prefect that a flow run's process is gone; whether it has such a flow run, unended."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(flow_run_id)).state
        except ObjectNotFound:
            return False
        if state is None or state.is_final() or state.is_scheduled():
            return state is not None and (state.is_scheduled() or state.is_crashed())
        client.set_flow_run_state(
            UUID(flow_run_id), Crashed(message="its process is gone"), force=True
        )
        return True


def declare_missed(name: str, text: str) -> None:
    """Leave a failed flow run for a night that never had one: whoever is told of failures is."""
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(f"{nightly.name}/{name}")
        client.create_flow_run_from_deployment(found.id, state=Failed(message=text), tags=TAGS)


def begin_again(client: SyncPrefectClient, name: str, *, tags: list[str]) -> None:
    """Have a schedule's night begun now by a worker."""
    found = client.read_deployment_by_name(f"{nightly.name}/{name}")
    client.create_flow_run_from_deployment(found.id, tags=[*TAGS, *tags])
