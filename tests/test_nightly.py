"""Nights without anybody watching: killed, cut off by their deadline, slept through."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import HTTPError

import pytest

from eurekaflow.flows import services
from eurekaflow.flows.automations import NOTIFY
from eurekaflow.models import postgres
from eurekaflow.models.archive import Archive
from tests.night_home import SIZES, NightHome, night_home, sink, until
from tests.scripted_run import ANSWERS

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(1200)]

UNDER_WAY = """
    select s.step from archive.steps s join archive.runs r on r.id = s.run_id
    where r.state = 'running' and r.lease_expires_at > now() and s.stage = 'committed'"""
PLACES = """
    select count(*), count(distinct (run_id, step, group_index, attempt_index)),
        count(*) filter (where s.stage = 'committed' and a.outcome is null)
    from archive.attempts a join archive.steps s using (run_id, step)"""
PAID = """
    select (select sum(tokens_out) from archive.ledger where night_id is not null),
        (select sum(response_tokens) from archive.attempts where response_tokens is not null)"""
ENDED = """
    select 1 from nights where schedule = 'nights' and due_at = '{}'
        and state in ('done', 'failed', 'missed')"""
COMMITTED = "select count(*) from archive.steps where stage = 'committed'"
BUDGET = 6  # steps of a night
SLOW = " + 0 * len(str(__import__('time').sleep({:.0f})))\n```"


@pytest.fixture(scope="module")
def home() -> Iterator[NightHome]:
    with night_home() as made:
        yield made


def test_three_nights_of_one_schedule_one_killed_one_slept_through_one_cut_off(
    home: NightHome,
) -> None:
    """The first is killed and ends by its budget, the third is caught up and meets its end."""
    begun = time.monotonic()
    serving = home.serve()
    try:
        until(lambda: served(home), 240, "the service")
        began_s = time.monotonic() - begun
        first = first_night(home, began_s)
        home.wait(UNDER_WAY, 240)
        assert home.kill_flow() == 1
        home.wait(ENDED.format(first))
        switch_off(home, serving)
        the_first_night_is_right(home)
        second, third = two_more_nights(home, began_s)
        time.sleep(max(0.0, (third - datetime.now(UTC)).total_seconds() + 1))
        serving = home.serve()
        home.wait(ENDED.format(third), 600)
        assert home.rows(ENDED.format(second)) == [(1,)]
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(90)
    morning(home)


def served(home: NightHome) -> bool | None:
    """Whether the service has made its deployments."""
    return True if "deployed continue" in (home.folder / "serve.log").read_text() else None


def first_night(home: NightHome, began_s: float) -> datetime:
    """A schedule whose only night is due in some seconds; when it is due.

    A machine that took `began_s` seconds to begin the service has more time for everything.
    """
    due = (datetime.now(UTC) + timedelta(seconds=6 + began_s / 3)).replace(microsecond=0)
    answers = home.folder / "slower.json"
    answers.write_text(json.dumps(ANSWERS))
    timing = ["--cron", f"{due.minute} * * * * {due.second}", "--timezone", "UTC"]
    given = [*timing, "--budget", f"steps={BUDGET}", "--set", "price_cpu_hour=1"]
    slower = ["--model", f"scripted:{answers}", "--set", "workers=2", "--set", "budget_s=30"]
    sizes = [word for text in SIZES for word in ("--set", text)]
    more = ["--name", "nights", "--preset", "small-cpu", *sizes, *slower, *given]
    home.eureka("nightly", "add", "erdos", *more)
    return due


def two_more_nights(home: NightHome, began_s: float) -> tuple[datetime, datetime]:
    """Two more of the same schedule, due at once and seconds later; when they are due.

    Set while nothing runs: hours of sleep need not be waited for. Candidates take so long from
    now on that the third night's end comes before its budget is used up.
    """
    slow = SLOW.format(3 + began_s / 15)
    slower = [text.replace("\n```", slow) for text in ANSWERS]
    (home.folder / "slower.json").write_text(json.dumps(slower))
    second = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
    if second.second > 57:  # both in one minute
        second = second.replace(second=0) + timedelta(minutes=1)
    third = second + timedelta(seconds=2)
    end = third + timedelta(seconds=45 + 2 * began_s)
    cron = f"{third.minute} * * * * {second.second},{third.second}"
    ends = f"jsonb_set(plan, '{{until}}', '\"{end:%H:%M:%S}\"')"
    home.rows(f"update archive.schedules set cron = '{cron}', plan = {ends}")
    return second, third


def switch_off(home: NightHome, serving: subprocess.Popen[bytes]) -> None:
    """What a power cut does: nothing is told anything. Prefect's records are lost besides."""
    workers = subprocess.run(
        ["pgrep", "-f", "prefect worker start"], capture_output=True, text=True, check=False
    )
    doomed = [int(pid) for pid in workers.stdout.split() if home.owns(int(pid))]
    for pid in [serving.pid, *doomed]:
        os.kill(pid, signal.SIGKILL)
    serving.wait()
    home.kill_flow()
    server = services.prefect_status(home.folder).pid
    if server is not None:
        os.kill(server, signal.SIGKILL)
        home.rows("drop database prefect with (force)")


def the_first_night_is_right(home: NightHome) -> None:
    """What was there when the machine went off: a whole budget of steps, and the report."""
    assert home.rows(COMMITTED) == [(BUDGET,)]
    the_report_is_right(home, f"paused by the rule night, {BUDGET} steps")


def morning(home: NightHome) -> None:
    """Archive, budget, status lines and report are right."""
    the_archive_is_right(home)
    the_bill_is_right(home)
    early, slept, killed = home.eureka("nightly", "status", "nights").splitlines()
    assert ": done after 2 starts; resumed " in killed
    assert f"the night's budget: {BUDGET} of {BUDGET} steps used" in killed
    assert ": missed; nothing served the schedule then" in slept
    assert ": done; continued " in early
    assert "the deadline is" in early
    the_report_is_right(home, "paused by the rule deadline")


def the_archive_is_right(home: NightHome) -> None:
    count, distinct, unjudged = home.rows(PLACES)[0]
    assert count == distinct > 0
    assert unjudged == 0
    archive = Archive(postgres.url(home.folder))
    try:
        runs = archive.runs(10)
        assert len(runs) == 1  # the nights went on with it
        for run in runs:
            assert archive.check_rebuild(run.id) == []
    finally:
        archive.close()


def the_bill_is_right(home: NightHome) -> None:
    early, slept, killed = json.loads(home.eureka("nightly", "status", "nights", "--json"))
    assert (killed["steps"], killed["starts"]) == (BUDGET, 2)
    assert killed["attempts"] == 12 * BUDGET
    assert (slept["steps"], slept["attempts"], slept["money"]) == (0, 0, 0)
    assert early["steps"] < BUDGET
    assert home.rows(COMMITTED) == [(BUDGET + early["steps"],)]
    paid, sampled = home.rows(PAID)[0]
    assert 0.9 * sampled <= paid <= 1.1 * sampled  # what a kill loses, and what is done again
    cpu, money = home.rows("select sum(cpu_s), sum(money) from archive.ledger")[0]
    assert cpu > 0
    assert money == pytest.approx(cpu / 3600)


def the_report_is_right(home: NightHome, words: str) -> None:
    """The page that a night left says how its run stands, as the archive does."""
    [(run, steps)] = home.rows(f"select uuid, ({COMMITTED}) from archive.runs")
    notes = (home.folder / "reports" / f"report-{str(run)[:8]}.md").read_text()
    state, _, more = words.partition(", ")
    assert f"run {run}, {state}, " in notes
    assert f"- steps: **{steps}**" in notes
    assert not more or more == f"{steps} steps"


def test_a_schedule_is_paused_edited_run_and_removed_in_archive_and_prefect(
    home: NightHome,
) -> None:
    serving = home.serve()
    try:
        until(lambda: home.api("deployments/name/continue/continue")["id"], 240, "the service")
        timing = ["--cron", "0 1 * * *", "--timezone", "UTC", "--set", "steps=2"]
        home.eureka("nightly", "add", "erdos", "--name", "kept", *timing, *home.sizes)
        deployment = kept(home)["id"]
        assert len(nights_to_come(home, deployment)) == 1
        home.eureka("nightly", "pause", "kept")
        assert kept(home)["paused"]
        assert nights_to_come(home, deployment) == []
        home.eureka("nightly", "resume", "kept")
        assert not kept(home)["paused"]
        assert len(nights_to_come(home, deployment)) == 1
        edits_are_taken_over(home)
        what_a_night_now_does(home)
        home.eureka("nightly", "remove", "kept")
        with pytest.raises(HTTPError, match="404"):
            kept(home)
        assert "kept" not in home.eureka("nightly", "list", "--json")
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(90)


def kept(home: NightHome) -> Any:
    """The deployment of the schedule `kept`, as Prefect has it."""
    return home.api("deployments/name/nightly/kept")


def nights_to_come(home: NightHome, deployment: str) -> Any:
    """Flow runs of a deployment that stand for nights to come."""
    wanted = {"id": {"any_": [deployment]}}
    state = {"state": {"name": {"any_": ["Scheduled", "Late"]}}}
    return home.api("flow_runs/filter", {"deployments": wanted, "flow_runs": state})


def edits_are_taken_over(home: NightHome) -> None:
    """Edited on Prefect's page: parameter and cron line that can be, then a parameter that not."""
    found = kept(home)
    path = f"deployments/{found['id']}"
    parameters = {**found["parameters"], "until": "06:30"}
    line = {"schedule": {"cron": "30 2 * * *", "timezone": "Asia/Tokyo"}, "active": False}
    home.api(path, {"parameters": parameters, "schedules": [line]}, "PATCH")
    home.wait(
        """select 1 from archive.schedules where name = 'kept' and plan->>'until' = '06:30'
        and cron = '30 2 * * *' and timezone = 'Asia/Tokyo'""",
        60,
    )
    home.api(path, {"parameters": {**parameters, "until": "29:00"}}, "PATCH")
    refused = "kept: the edit on Prefect's page was refused: until: '29:00' is no time of day"
    log = home.folder / "serve.log"
    until(lambda: refused in log.read_text() or None, 60, refused)
    until(lambda: kept(home)["parameters"]["until"] == "06:30" or None, 60, "the old value")
    [listed] = [
        row
        for row in json.loads(home.eureka("nightly", "list", "--json"))
        if row["name"] == "kept"
    ]
    assert (listed["until"], listed["cron"]) == ("06:30", "30 2 * * *")


def what_a_night_now_does(home: NightHome) -> None:
    """A night by hand ends like any other, and the webhook hears of it until it is let off."""
    with sink() as (url, posts):
        home.eureka("nightly", "notify", url)
        time.sleep(2)  # Prefect reads its automations again
        said = home.eureka("nightly", "run-now", "kept")
        assert said.splitlines()[-1].startswith("started ")
        assert "2 steps" in said.splitlines()[-1]
        state = "select state, kind from nights where schedule = 'kept'"
        assert home.rows(state) == [("done", "by_hand")]
        until(lambda: posts or None, 60, "a post")
        home.eureka("nightly", "notify", "--off")
    assert [(post["name"], post["state"]) for post in posts] == [("kept", "Completed")]
    assert home.api("automations/filter", {"automations": {"name": {"any_": [NOTIFY]}}}) == []


def test_a_run_goes_on_when_prefects_server_dies_and_its_database_is_dropped(
    home: NightHome,
) -> None:
    process = home.start("run", "erdos", "--steps", "8", *home.sizes)
    assert process.stderr is not None
    first = next(line for line in process.stderr if line.startswith("run "))
    next(line for line in process.stderr if line.startswith("step"))
    server = services.prefect_status(home.folder).pid
    assert server is not None
    os.kill(server, signal.SIGKILL)
    home.rows("drop database prefect with (force)")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    run = first.split()[1]
    found = home.rows(
        f"""select r.state, count(*), count(a.outcome) from archive.runs r
        join archive.attempts a on a.run_id = r.id and a.step >= 0
        where r.uuid = '{run}' group by 1"""
    )
    assert found == [("finished", 96, 96)]


def test_cancel_in_prefect_stops_a_run_with_its_state_saved(home: NightHome) -> None:
    process = home.start("run", "erdos", "--steps", "1000", *home.sizes)
    assert process.stderr is not None
    run = next(line for line in process.stderr if line.startswith("run ")).split()[1]
    next(line for line in process.stderr if line.startswith("step"))
    [(flow,)] = home.rows(f"select flow_run_id from archive.runs where uuid = '{run}'")
    state = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}
    home.api(f"flow_runs/{flow}/set_state", state)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert "cancelled in Prefect" in err
    found = home.rows(f"select state, ended_by from archive.runs where uuid = '{run}'")
    assert found == [("paused", "cancelled")]
    assert home.api(f"flow_runs/{flow}")["state"]["type"] == "CANCELLED"


def test_cancel_and_retry_of_a_workers_run_stop_it_and_continue_it(home: NightHome) -> None:
    [(run,)] = home.rows("select uuid from archive.runs where ended_by = 'cancelled'")
    serving = home.serve()
    try:
        deployment = until(
            lambda: home.api("deployments/name/continue/continue")["id"], 180, "the deployment"
        )
        body = {"parameters": {"run_id": str(run)}, "state": {"type": "SCHEDULED"}}
        flow = home.api(f"deployments/{deployment}/create_flow_run", body)["id"]
        steps = (
            f"select count(*) from archive.steps s join archive.runs r on r.id = s.run_id"
            f" where uuid = '{run}' and stage = 'committed'"
        )
        [(before,)] = home.rows(steps)
        until(lambda: True if home.rows(steps)[0][0] > before else None, 180, "progress")
        state = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}
        home.api(f"flow_runs/{flow}/set_state", state)
        paused = f"select 1 from archive.runs where uuid = '{run}' and state = 'paused'"
        home.wait(paused)
        [(middle,)] = home.rows(steps)
        until(
            lambda: home.api(f"flow_runs/{flow}")["state"]["type"] == "CANCELLED" or None,
            120,
            "the end of the cancellation",
        )
        retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
        home.api(f"flow_runs/{flow}/set_state", retry)
        until(lambda: True if home.rows(steps)[0][0] > middle else None, 180, "a retry")
        assert home.rows("select count(*) from archive.runs where state = 'running'") == [(1,)]
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(90)
    home.wait(paused)  # the service that ends lets its runs save themselves
