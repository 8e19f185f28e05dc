"""The commands `nightly …` on an archive, without Prefect: what they store, print and refuse."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eurekaflow.flows import cli
from eurekaflow.flows.night_plan import newest_due, plan_of
from eurekaflow.models.archive import Archive

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = pytest.mark.services

Nightly = Callable[..., int]
ADD = ("add", "erdos", "--cron", "0 1 * * *", "--timezone", "Europe/Berlin")


@pytest.fixture
def nightly(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Nightly]:
    """`eureka nightly …` on the test's archive; its exit code."""
    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    monkeypatch.setenv("EUREKA_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.chdir(tmp_path)  # no configuration file
    handler = signal.getsignal(signal.SIGTERM)
    yield lambda *words: cli.main(["nightly", *words])
    signal.signal(signal.SIGTERM, handler)


def test_list_gives_each_schedule_with_its_next_night(
    nightly: Nightly, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nightly("list") == 0
    assert "none yet: eureka nightly add" in capsys.readouterr().err
    assert nightly(*ADD, "--until", "07:00", "--policy", "start") == 0
    assert nightly(*ADD, "--name", "later") == 0
    assert nightly("pause", "later") == 0
    capsys.readouterr()
    assert nightly("list", "--json") == 0
    first, later = json.loads(capsys.readouterr().out)
    following = first.pop("next")
    assert following.endswith((" 01:00 CET", " 01:00 CEST"))
    assert first == {
        "name": "erdos",
        "problem": "erdos",
        "cron": "0 1 * * *",
        "timezone": "Europe/Berlin",
        "until": "07:00",
        "policy": "start",
    }
    assert (later["name"], later["policy"], later["next"]) == ("later", "continue", None)
    assert nightly("list") == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("erdos", "later", "Europe/Berlin", following))


def test_a_paused_schedule_has_no_nights_and_catches_none_up_when_it_is_resumed(
    nightly: Nightly, archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nightly("add", "erdos", "--name", "n", "--cron", "* * * * *") == 0
    assert nightly("pause", "n") == 0
    assert capsys.readouterr().out.endswith("n: paused\n")
    paused = archive.schedule("n")
    assert (paused.paused, paused.revision) == (True, 1)
    with archive._read() as connection:  # it was added long ago
        connection.exec_driver_sql(
            "update archive.schedules set watched_from = now() - interval '1 h'"
        )
    assert nightly("resume", "n") == 0
    assert "n: next due " in capsys.readouterr().out
    resumed = archive.schedule("n")
    assert (resumed.paused, resumed.revision) == (False, 2)
    plan, since = plan_of(resumed.plan), resumed.settled_until
    assert newest_due(resumed, plan, since) == (None, [])
    found, missed = newest_due(resumed, plan, since + timedelta(minutes=1))
    assert found is not None
    assert missed == []


def test_a_removed_schedule_is_gone_its_nights_stay_and_its_name_is_free(
    nightly: Nightly, archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nightly(*ADD, "--name", "n") == 0
    archive.add_missed(archive.schedule("n").id, datetime(2026, 11, 1, tzinfo=UTC), "off")
    assert nightly(*ADD, "--name", "n") == 2
    assert "exists already" in capsys.readouterr().err
    assert nightly("remove", "n") == 0
    assert archive.schedules() == []
    assert archive.query("select schedule, state from nights")[1] == [("n", "missed")]
    assert nightly(*ADD, "--name", "n") == 0


@pytest.mark.parametrize("command", ["status", "pause", "resume", "remove", "run-now"])
def test_a_schedule_that_is_not_there_is_refused_with_the_command_that_lists_them(
    nightly: Nightly, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert nightly(command, "none") == 2
    said = capsys.readouterr().err
    assert "there is no schedule 'none'" in said
    assert "fix: eureka nightly list" in said


@pytest.mark.parametrize("address", ["", "hooks.example.org", "ftp://hooks.example.org"])
def test_being_told_needs_a_web_address(
    nightly: Nightly, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    assert nightly("notify", address) == 2
    assert "this is no web address" in capsys.readouterr().err
