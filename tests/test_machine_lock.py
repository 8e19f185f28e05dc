"""A device belongs to one process through a restart of the server; so does a night."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eurekaflow.flows.configure import Surroundings
from eurekaflow.flows.night_service import Service
from eurekaflow.models.archive import Archive, RunRow
from eurekaflow.models.errors import RunOwned
from eurekaflow.models.machine_lock import MachineLock, holder

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = pytest.mark.services
END = """
    select pg_terminate_backend(pid, 2000) from pg_locks where locktype = 'advisory'
        and database = (select oid from pg_database where datname = current_database())"""
LEASE = """
    update archive.runs set lease_owner = 'a night', lease_host = %s, lease_pid = %s,
        lease_since = now(), lease_expires_at = now() + interval '1 minute' where id = %s"""


def soon(happens: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10.0
    while not happens() and time.monotonic() < deadline:
        time.sleep(0.05)
    return happens()


def test_a_lock_that_a_restart_took_is_taken_again(archive: Archive) -> None:
    with MachineLock(archive.url, "host gpu 0", owner="the first"):
        with psycopg.connect(archive.url, autocommit=True) as connection:
            connection.execute(END)
        assert soon(lambda: holder(archive.url, "host gpu 0") == "the first")
        with pytest.raises(RunOwned, match="the first"):
            MachineLock(archive.url, "host gpu 0", owner="the second")


def test_who_finds_the_device_taken_after_a_restart_is_told_once(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    first = MachineLock(archive.url, "host gpu 0", owner="the first", told=said.append)
    with first._guard:  # the other is faster
        first._drop()
        assert soon(lambda: holder(archive.url, "host gpu 0") == "")
        second = MachineLock(archive.url, "host gpu 0", owner="the second")
    assert soon(lambda: bool(said))
    time.sleep(1.2)
    assert said == ["host gpu 0 is in use by the second, after the database was away"]
    second.release()
    assert soon(lambda: holder(archive.url, "host gpu 0") == "the first")
    first.release()
    assert soon(lambda: holder(archive.url, "host gpu 0") == "")


@pytest.mark.parametrize(("pid", "begun"), [(os.getppid(), 0), (2**22 + 1, 1)])
def test_a_night_counts_as_crashed_only_when_nobody_has_its_run(
    archive: Archive,
    run: RunRow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pid: int,
    begun: int,
) -> None:
    schedule = archive.add_schedule("s", cron="0 1 * * *", timezone="UTC", plan={"problem": "x"})
    now = datetime.now(UTC)
    archive.begin_night(schedule.id, now, kind="by_hand", host=platform.node(), deadline=None)
    archive.assign_run(run.uuid, schedule.id)
    with psycopg.connect(archive.url, autocommit=True) as connection:
        connection.execute(LEASE, (socket.gethostname(), pid, run.id))
    asked = list[Any]()
    monkeypatch.setattr(Service, "begin", lambda *given: asked.append(given) or ["began"])
    service = Service(Surroundings(home=tmp_path), archive.url)
    service.begin_crashed(archive, schedule, now)
    assert len(asked) == begun
