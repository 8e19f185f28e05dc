"""Due times: what a cron line means in a time zone, on the days when clocks change too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eurekaflow.flows.night_plan import deadline, newest_due, plan_of
from eurekaflow.models import cron
from eurekaflow.models.errors import UsageError
from eurekaflow.models.nights import ScheduleRow

BERLIN = cron.zone_named("Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def dues(line: str, since: str, until: str) -> list[str]:
    found = cron.parse(line).latest(at(until), BERLIN, since=at(since))
    return [f"{due:%m-%d %H:%M}" for due in found]


def test_a_time_that_does_not_exist_is_due_when_the_clock_has_jumped() -> None:
    # 2026-03-29: 02:00 CET is followed by 03:00 CEST, which is 01:00 UTC
    assert dues("30 2 * * *", "2026-03-28T00:00", "2026-03-31T00:00") == [
        "03-28 01:30",
        "03-29 01:00",
        "03-30 00:30",
    ]


def test_a_time_that_exists_twice_is_due_once_the_first_time() -> None:
    # 2026-10-25: 02:30 CEST is 00:30 UTC, 02:30 CET is 01:30 UTC
    assert dues("30 2 * * *", "2026-10-24T12:00", "2026-10-26T12:00") == [
        "10-25 00:30",
        "10-26 01:30",
    ]


def test_the_hour_of_the_night_stays_when_summer_time_begins() -> None:
    assert dues("0 1 * * *", "2026-03-28T12:00", "2026-03-30T12:00") == [
        "03-29 00:00",
        "03-29 23:00",
    ]


@pytest.mark.parametrize(
    ("line", "after", "expected"),
    [
        ("0 1 * * *", "2026-11-22T00:30", "2026-11-23T00:00"),
        ("*/20 9-10 * * mon-fri", "2026-11-20T09:40", "2026-11-23T08:00"),
        ("0 0 29 2 *", "2026-03-01T00:00", "2028-02-28T23:00"),
        ("0 12 13 * fri", "2026-11-08T00:00", "2026-11-13T11:00"),
        ("0 12 1 jan,jul 7", "2026-06-27T13:00", "2026-07-01T10:00"),
        ("* * * * * */20", "2026-11-22T10:00:05", "2026-11-22T10:00:20"),
    ],
)
def test_the_next_due_time(line: str, after: str, expected: str) -> None:
    assert cron.parse(line).following(at(after), BERLIN) == at(expected)


@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    after=st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
)
def test_a_daily_line_is_due_once_a_day_in_every_zone(
    minute: int, hour: int, after: datetime
) -> None:
    line = cron.parse(f"{minute} {hour} * * *")
    for name in ("Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"):
        zone = cron.zone_named(name)
        due = line.following(after, zone)
        assert after < due <= after + timedelta(hours=25)
        days = [d.astimezone(zone).date() for d in [due, line.following(due, zone)]]
        assert days[1] - days[0] == timedelta(days=1)


@pytest.mark.parametrize(
    "line", ["0 1 * *", "61 1 * * *", "a 1 * * *", "0 1 0 * *", "5-1 * * * *", "*/0 * * * *", ""]
)
def test_a_line_that_cannot_be_is_refused(line: str) -> None:
    with pytest.raises(UsageError):
        cron.parse(line)


def test_a_day_that_never_comes_is_refused() -> None:
    with pytest.raises(UsageError, match="never due"):
        cron.parse("0 1 31 2 *").following(at("2026-01-01T00:00"), BERLIN)


def schedule(until: str | None) -> tuple[ScheduleRow, object]:
    plan = plan_of({"problem": "erdos", "until": until})
    row = ScheduleRow(
        id=1,
        name="x",
        cron="0 1 * * *",
        timezone="Europe/Berlin",
        plan={},
        paused=False,
        revision=0,
        settled_until=at("2026-11-20T00:00"),
    )
    return row, plan


@pytest.mark.parametrize(
    ("now", "begun", "missed"),
    [
        ("2026-11-20T00:00", None, 0),  # it is settled already
        ("2026-11-21T00:01", "scheduled", 0),
        ("2026-11-21T05:59", "caught_up", 0),
        ("2026-11-21T06:01", None, 1),  # 07:01 in Berlin: its window is closed
        ("2026-11-23T03:00", "caught_up", 2),  # only the newest is caught up
    ],
)
def test_a_missed_night_is_caught_up_while_its_window_is_open(
    now: str, begun: str | None, missed: int
) -> None:
    row, plan = schedule("07:00")
    due, skipped = newest_due(row, plan, at(now))  # type: ignore[arg-type]
    assert (due.kind if due else None, len(skipped)) == (begun, missed)


def test_a_night_without_an_end_ends_when_the_next_is_due() -> None:
    row, plan = schedule(None)
    end = deadline(row, plan, at("2026-11-21T00:00"))  # type: ignore[arg-type]
    assert end == at("2026-11-22T00:00")


def test_a_plan_that_cannot_be_names_the_field() -> None:
    for field, value in [("until", "7 pm"), ("policy", "hope"), ("settings", {"stepz": 1})]:
        with pytest.raises(UsageError, match=field if field != "settings" else "stepz"):
            plan_of({"problem": "erdos", field: value})
