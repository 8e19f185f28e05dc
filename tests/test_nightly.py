"""Nights without anybody watching: killed, cut off by their deadline, slept through."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from eurekaflow.flows import services
from tests.night_home import NightHome, night_home, until

pytestmark = [pytest.mark.long, pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]

CADENCE = "* * * * *"  # a night every minute: starting a flow takes up to half of that
UNDER_WAY = """
    select s.step from archive.steps s join archive.runs r on r.id = s.run_id
    where r.state = 'running' and r.lease_expires_at > now() and s.stage = 'committed'"""
PLACES = """
    select count(*), count(distinct (run_id, step, group_index, attempt_index)),
        count(*) filter (where s.stage = 'committed' and a.outcome is null)
    from archive.attempts a join archive.steps s using (run_id, step)"""
SPENT_TWICE = """
    select (select sum(tokens_out) from archive.ledger where night_id is not null),
        (select sum(response_tokens) from archive.attempts where response_tokens is not null)"""


@pytest.fixture(scope="module")
def home() -> Iterator[NightHome]:
    with night_home() as made:
        yield made


def nights(home: NightHome) -> list[tuple[Any, ...]]:
    return home.rows("select due_at, state, starts, message from archive.nights order by due_at")


def test_three_nights_unattended_one_killed_one_cut_off_one_slept_through(
    home: NightHome,
) -> None:
    add = ["--name", "fast", "--cron", CADENCE, "--timezone", "UTC", *home.sizes]
    home.eureka("nightly", "add", "erdos", *add, "--set", "price_cpu_hour=1")
    serving = home.serve()
    try:
        home.wait(UNDER_WAY, 240)
        assert home.kill_flow() == 1
        home.wait("select 1 from archive.nights where starts > 1 or message like 'crashed%'")
        home.wait(
            "select 1 from archive.nights where state = 'done' and message like '%deadline%'"
        )
        switch_off(home, serving)
        off = time.time()
        time.sleep(61 - time.time() % 60)  # a night goes by
        on = time.time()
        serving = home.serve()
        [(missed,)] = [
            home.wait(
                "select due_at from archive.nights where state = 'missed' and"
                f" due_at >= to_timestamp({off})"
            )
        ]
        assert missed.timestamp() <= on
        home.wait(
            f"select 1 from archive.nights where due_at > to_timestamp({on - 60}) and"
            " state in ('running', 'done')"
        )
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(90)
    morning(home)


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


def morning(home: NightHome) -> None:
    """Archive, budget and status line are right."""
    known = nights(home)
    assert {state for _, state, _, _ in known} >= {"done", "missed"}
    assert len({due for due, *_ in known}) == len(known)
    assert home.rows("select count(distinct uuid) from archive.runs") == [(1,)]
    count, distinct, unjudged = home.rows(PLACES)[0]
    assert count == distinct
    assert unjudged == 0
    paid, sampled = home.rows(SPENT_TWICE)[0]
    assert 0.9 * sampled <= paid
    cpu, money = home.rows("select sum(cpu_s), sum(money) from archive.ledger")[0]
    assert money == pytest.approx(cpu / 3600)
    lines = home.eureka("nightly", "status", "fast").splitlines()
    assert [line for line in lines if "the deadline is" in line]
    assert [line for line in lines if "missed; nothing served the schedule then" in line]


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
    _, err = process.communicate(timeout=120)
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
    _, err = process.communicate(timeout=120)
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
            lambda: home.api("deployments/name/continue/continue")["id"], 90, "the deployment"
        )
        body = {"parameters": {"run_id": str(run)}, "state": {"type": "SCHEDULED"}}
        flow = home.api(f"deployments/{deployment}/create_flow_run", body)["id"]
        steps = (
            f"select count(*) from archive.steps s join archive.runs r on r.id = s.run_id"
            f" where uuid = '{run}' and stage = 'committed'"
        )
        [(before,)] = home.rows(steps)
        until(lambda: True if home.rows(steps)[0][0] > before else None, 90, "progress")
        state = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}
        home.api(f"flow_runs/{flow}/set_state", state)
        paused = f"select 1 from archive.runs where uuid = '{run}' and state = 'paused'"
        home.wait(paused)
        [(middle,)] = home.rows(steps)
        until(
            lambda: home.api(f"flow_runs/{flow}")["state"]["type"] == "CANCELLED" or None,
            60,
            "the end of the cancellation",
        )
        retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
        home.api(f"flow_runs/{flow}/set_state", retry)
        until(lambda: True if home.rows(steps)[0][0] > middle else None, 90, "a retry")
        assert home.rows("select count(*) from archive.runs where state = 'running'") == [(1,)]
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(90)
    home.wait(paused)  # the service that ends lets its runs save themselves
