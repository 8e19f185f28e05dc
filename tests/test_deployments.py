"""What we put into Prefect: deployments that may be edited there, automations for ours alone."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect import flow, tags
from prefect.automations import Automation, AutomationCore
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.runtime import flow_run
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed, Scheduled

from eurekaflow.flows import (
    automations,
    deployments,
    night_service,
    night_work,
    services,
    sitting,
)
from eurekaflow.flows.configure import Surroundings
from eurekaflow.flows.night_plan import OFF, plan_of
from eurekaflow.flows.prefect_server import HEARTBEATS
from eurekaflow.flows.prefect_tags import BY_HAND, NIGHTLY, OURS
from eurekaflow.models import schema
from eurekaflow.models.archive import Archive
from tests.night_home import sink

ROOT = Path(__file__).resolve().parent.parent
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def heard(event: str, *tags: str) -> ReceivedEvent:
    """An event of a flow run with these tags."""
    related = [
        {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}
        for tag in tags
    ]
    return ReceivedEvent(
        id=uuid4(),
        occurred=NOW,
        received=NOW,
        event=f"prefect.flow-run.{event}",
        resource={"prefect.resource.id": f"prefect.flow-run.{uuid4()}"},
        related=related,
    )


@pytest.mark.parametrize(
    ("make", "event", "ours"),
    [
        (automations.silent_is_crashed, "heartbeat", [OURS]),
        (automations.crashed_is_retried, "Crashed", [NIGHTLY]),
        (lambda: automations.told(uuid4()), "Failed", [BY_HAND]),
        (lambda: automations.told(uuid4()), "Failed", [OURS, NIGHTLY]),
    ],
)
def test_an_automation_sees_our_flow_runs_and_nobody_elses(
    make: Any, event: str, ours: list[str]
) -> None:
    trigger = EventTrigger.model_validate(make().trigger.model_dump(mode="json"))
    assert trigger.covers(heard(event, *ours, "mine"))
    assert not trigger.covers(heard(event))
    assert not trigger.covers(heard(event, "production"))


def test_the_automation_for_mail_in_the_docs_is_one() -> None:
    page = (ROOT / "docs/nightly.md").read_text()
    text = page.partition("```yaml\n")[2].partition("```")[0]
    made = AutomationCore.model_validate(
        yaml.safe_load(text.replace("THE-BLOCKS-ID", str(uuid4())))
    )
    assert made.trigger.model_dump() == automations.told(uuid4()).trigger.model_dump()


def test_prefect_yaml_deploys_what_exists_for_the_pool_that_workers_serve() -> None:
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    assert len(content["deployments"]) == 2
    for made in content["deployments"]:
        assert isinstance(load_flow_from_entrypoint(made["entrypoint"]), Flow)
        assert made["work_pool"] == {"name": deployments.POOL, "job_variables": deployments.JOB}
        assert made["tags"] == [OURS]


def test_a_worker_elsewhere_sends_the_heartbeats_whose_absence_means_death() -> None:
    assert deployments.JOB["env"] == HEARTBEATS
    assert 3 * int(HEARTBEATS["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]) <= automations.DEAD_AFTER_S


def test_a_night_missed_while_the_worker_kept_dying_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missed: dict[datetime, str] = {}
    keeps: Any = SimpleNamespace(add_missed=lambda _, due, message: missed.update({due: message}))
    monkeypatch.setattr(deployments, "why_not", lambda *_: "")

    def dies(here: Surroundings) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sh", "-c", "exit 3"])

    log = tmp_path / "prefect/worker.log"
    log.parent.mkdir()
    log.write_text("starting\nModuleNotFoundError: No module named 'torch'\n\n")
    monkeypatch.setattr(night_service, "start_worker", dies)
    service = night_service.Service(Surroundings(home=tmp_path), "")
    service.keep_worker()
    assert service.worker is not None
    service.worker.wait()
    service.keep_worker()
    now = datetime.now(UTC).replace(microsecond=0)
    earlier = now - timedelta(hours=1)
    values = {"cron": "0 * * * * *", "timezone": "UTC", "paused": False, "revision": 1}
    plan = plan_of({"problem": "erdos", "until": "00:00"}).model_dump(mode="json")
    row: Any = SimpleNamespace(
        id=1, name="n", plan=plan, settled_until=now - timedelta(hours=2), **values
    )
    monkeypatch.setattr(night_service, "newest_due", lambda *_: (None, [now, earlier]))
    service.begin_due(keeps, row, now)
    assert "the worker ended with 3: ModuleNotFoundError: No module named 'torch'" in missed[now]
    assert missed[earlier] == OFF  # before that, nothing is known of


served = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture(scope="module")
def opened() -> Iterator[services.Services]:
    """An archive and a Prefect server of their own."""
    home = Path(tempfile.mkdtemp(prefix="eurekaflow-deployments-"))
    home.chmod(0o755)
    try:
        with services.open_services(home, prefect=True) as found:
            schema.bootstrap(found.database_url)
            yield found
    finally:
        services.stop_services(home, force=True)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def client(opened: services.Services) -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: opened.api_url}),
        get_client(sync_client=True) as made,
    ):
        yield made


@pytest.fixture
def archive(opened: services.Services) -> Iterator[Archive]:
    found = Archive(opened.database_url)
    yield found
    for row in found.schedules():
        found.remove_schedule(row.name)
    found.close()


def a_schedule(archive: Archive) -> str:
    plan = plan_of({"problem": "erdos"}).model_dump(mode="json")
    return archive.add_schedule(
        f"n{uuid4().hex[:6]}", cron="0 1 * * *", timezone="UTC", plan=plan
    ).name


def retime(client: SyncPrefectClient, name: str, line: CronSchedule) -> None:
    """Edit a deployment's schedule, as Prefect's page does."""
    found = client.read_deployment_by_name(f"nightly/{name}")
    client.update_deployment_schedule(found.id, found.schedules[0].id, schedule=line)


class TestDeployments:
    pytestmark = served

    def test_parameters_edited_on_prefects_page_are_taken_over(
        self, client: SyncPrefectClient, archive: Archive
    ) -> None:
        name = a_schedule(archive)
        assert f"deployed {name}" in deployments.synchronise(archive, NOW)
        found = client.read_deployment_by_name(f"nightly/{name}")
        assert {*found.tags} == {OURS, NIGHTLY}
        edited = {**found.parameters, "until": "06:30", "budget": {"money": 5}}
        client.update_deployment(found.id, DeploymentUpdate(parameters=edited, paused=True))
        done = deployments.synchronise(archive, NOW)
        assert f"{name}: took over paused, plan from Prefect's page" in done
        row = archive.schedule(name)
        assert (row.plan["until"], plan_of(row.plan).limits) == ("06:30", {"money": 5.0})
        assert row.paused
        assert deployments.synchronise(archive, NOW) == []

    def test_the_switch_on_prefects_page_resumes_a_schedule_and_goes_off_again(
        self, client: SyncPrefectClient, archive: Archive
    ) -> None:
        name = a_schedule(archive)
        archive.change_schedule(name, paused=True)
        deployments.synchronise(archive, NOW)
        found = client.read_deployment_by_name(f"nightly/{name}")
        [line] = found.schedules
        for before in (True, False):  # paused, then not: Prefect's scheduler is never left on
            assert archive.schedule(name).paused is before
            client.update_deployment_schedule(found.id, line.id, active=True)
            assert f"{name}: took over paused from Prefect's page" in deployments.synchronise(
                archive, NOW
            )
            again = client.read_deployment_by_name(f"nightly/{name}")
            [line] = again.schedules
            assert not line.active
            assert not archive.schedule(name).paused

    def test_a_cron_line_and_a_zone_edited_on_prefects_page_are_taken_over(
        self, client: SyncPrefectClient, archive: Archive
    ) -> None:
        name = a_schedule(archive)
        deployments.synchronise(archive, NOW)
        retime(client, name, CronSchedule(cron="30 2 * * 1", timezone="Asia/Tokyo"))
        done = deployments.synchronise(archive, NOW)
        assert f"{name}: took over cron, timezone from Prefect's page" in done
        row = archive.schedule(name)
        assert (row.cron, row.timezone) == ("30 2 * * 1", "Asia/Tokyo")
        found = client.read_deployment_by_name(f"nightly/{name}")
        [waits] = deployments.waiting(client, found.id)
        assert waits.expected_start_time == datetime(2026, 11, 1, 17, 30, tzinfo=UTC)
        assert [entry.active for entry in found.schedules] == [False]  # nights are ours to begin
        assert deployments.synchronise(archive, NOW) == []

    def test_a_cron_line_that_only_prefect_understands_is_refused_and_put_back(
        self, client: SyncPrefectClient, archive: Archive
    ) -> None:
        name = a_schedule(archive)
        deployments.synchronise(archive, NOW)
        before = archive.schedule(name)
        retime(client, name, CronSchedule(cron="@daily", timezone="UTC"))
        [said] = deployments.synchronise(archive, NOW)
        assert said.startswith(f"{name}: the edit on Prefect's page was refused: '@daily' has 1")
        assert archive.schedule(name) == before
        [entry] = client.read_deployment_by_name(f"nightly/{name}").schedules
        assert isinstance(entry.schedule, CronSchedule)
        assert entry.schedule.cron == before.cron

    @pytest.mark.parametrize("wrong", [{"settings": {"groops": 3}}, {"until": "29:00"}])
    def test_an_edit_that_cannot_be_is_refused_and_put_back(
        self, client: SyncPrefectClient, archive: Archive, wrong: dict[str, Any]
    ) -> None:
        name = a_schedule(archive)
        deployments.synchronise(archive, NOW)
        found = client.read_deployment_by_name(f"nightly/{name}")
        before = archive.schedule(name)
        edited = {**found.parameters, **wrong}
        client.update_deployment(found.id, DeploymentUpdate(parameters=edited))
        said = deployments.synchronise(archive, NOW)
        assert [line for line in said if "the edit on Prefect's page was refused" in line]
        assert archive.schedule(name) == before
        again = client.read_deployment_by_name(f"nightly/{name}")
        assert again.parameters == found.parameters

    def test_a_night_whose_flow_run_broke_is_missed_for_that_reason(
        self, client: SyncPrefectClient, archive: Archive
    ) -> None:
        name = a_schedule(archive)
        deployments.synchronise(archive, NOW)
        due = datetime(2026, 11, 2, 1, tzinfo=UTC)
        assert night_work.reason(name, due) == OFF
        [waits] = deployments.waiting(client, client.read_deployment_by_name(f"nightly/{name}").id)
        assert waits.expected_start_time == due
        for state in (Crashed(message="no module named torch"), Scheduled(name="AwaitingRetry")):
            client.set_flow_run_state(waits.id, state, force=True)
        told = "it did not start, its flow run ended as Crashed: no module named torch"
        assert night_work.reason(name, due) == told

    def test_a_missed_night_is_told_once_as_a_failed_flow_run(
        self, client: SyncPrefectClient, archive: Archive
    ) -> None:
        """What Prefect never began has no flow run of its own that could fail and be told of."""
        name = a_schedule(archive)
        deployments.synchronise(archive, NOW)
        due = datetime(2026, 11, 1, 1, tzinfo=UTC)
        for _ in range(2):
            night_work.miss(archive, archive.schedule(name), due)
        found = client.read_flow_runs(
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.FAILED]))
            ),
        )
        [told] = [run.state.message for run in found if run.state]
        assert told == f"the night due 2026-11-01 01:00 UTC was missed; {OFF}"
        assert "prefect.flow-run.Failed" in automations.told(uuid4()).trigger.expect

    def test_automations_of_an_earlier_version_are_brought_up_to_date(
        self, client: SyncPrefectClient
    ) -> None:
        automations.ensure_automations()
        assert automations.ensure_automations() == []
        wide: Any = automations.silent_is_crashed()
        wide.trigger.match_related = {}
        assert automations.ensure(wide)
        assert automations.ensure_automations() == [f"changed the automation {wide.name}"]
        known: Any = Automation
        assert OURS in str(known.read(name=wide.name).trigger.match_related)

    def test_a_run_outside_nights_is_tagged_and_its_death_will_be_seen(
        self, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[list[str]] = []

        @flow(name="discover")
        def discover(run_id: str) -> None:
            seen.append(sorted(flow_run.get_tags()))

        monkeypatch.setattr("eurekaflow.flows.discover.discover", discover)
        for night in (None, 3):
            run: Any = SimpleNamespace(place=SimpleNamespace(night=night), run=SimpleNamespace())
            run.run.uuid = "a run"
            with tags(*([] if night is None else [BY_HAND])):  # as a night begun by hand has
                sitting.tagged(run)
        assert seen == [[OURS, BY_HAND], [OURS]]

    def test_a_webhook_hears_how_our_runs_end_and_not_of_others(
        self, client: SyncPrefectClient
    ) -> None:
        with sink() as (url, posts):
            assert automations.notify(url) == [f"made the automation {automations.NOTIFY}"]
            time.sleep(2)  # Prefect reads its automations again
            ends()
            with tags(OURS, BY_HAND):
                with contextlib.suppress(ValueError):
                    ends(fail=True)
                ends()
            limit = time.monotonic() + 60
            while len(posts) < 2 and time.monotonic() < limit:
                time.sleep(0.2)
            time.sleep(1)
        assert sorted(post["state"] for post in posts) == ["Completed", "Failed"]
        failed = next(post for post in posts if post["state"] == "Failed")
        assert 'the "disk" is gone' in failed["text"]
        assert automations.silence()
        assert not automations.silence()


@flow(name="ends", retries=0)
def ends(fail: bool = False) -> None:
    if fail:
        raise ValueError('the "disk" is gone')
