"""When a cron line is due in a time zone: the moments that count as nights, summer time included.

Five fields (minute, hour, day of month, month, day of week) or six, the sixth being seconds. Day
of month and day of week are joined by OR when both are given, as cron does. Two rules for the
days when clocks change: a local time that does not exist is due at the first moment after the
gap, and one that exists twice is due once, the first time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from eurekaflow.models.errors import UsageError

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of week", 0, 7, DAYS),
    ("second", 0, 59, ()),
)
FARTHEST = 366 * 8 + 2  # days looked through: 29 February comes at the latest after eight years


@dataclass(frozen=True)
class Cron:
    """A parsed cron line."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    seconds: frozenset[int]
    either_day: bool  # both kinds of day are restricted, so either is enough

    def on(self, day: date) -> bool:
        """Whether anything is due on this day."""
        if day.month not in self.months:
            return False
        by_date, by_name = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_date or by_name if self.either_day else by_date and by_name

    def moments(self, day: date, zone: ZoneInfo) -> list[datetime]:
        """The due moments of a day in UTC, ascending, each once."""
        if not self.on(day):
            return []
        found = {
            moment(day, time(h, m, s), zone)
            for h in self.hours
            for m in self.minutes
            for s in self.seconds
        }
        return sorted(found)

    def following(self, after: datetime, zone: ZoneInfo) -> datetime:
        """The first due moment later than `after`. Raises UsageError when there is none."""
        first = after.astimezone(zone).date()
        for offset in range(FARTHEST):
            for due in self.moments(first + timedelta(days=offset), zone):
                if due > after:
                    return due
        raise UsageError("the cron line is never due", "check its day and month")

    def latest(self, until: datetime, zone: ZoneInfo, *, since: datetime) -> list[datetime]:
        """The due moments in (since, until], ascending."""
        day, last = since.astimezone(zone).date(), until.astimezone(zone).date()
        found: list[datetime] = []
        while day <= last:
            found += [due for due in self.moments(day, zone) if since < due <= until]
            day += timedelta(days=1)
        return found


def moment(day: date, clock: time, zone: ZoneInfo) -> datetime:
    """A local time in UTC; one in a gap becomes the gap's end, an ambiguous one its first."""
    local = datetime.combine(day, clock, tzinfo=zone)
    found = local.astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return found
    # In a gap: fold 0 reads it with the offset before the change, fold 1 with the one after.
    before, after = found, local.replace(fold=1).astimezone(UTC)
    low, high = min(before, after), max(before, after)
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == low.astimezone(zone).utcoffset():
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


def at_clock(after: datetime, clock: time, zone: ZoneInfo) -> datetime:
    """The first time that the local clock shows `clock` later than `after`, in UTC."""
    day = after.astimezone(zone).date()
    first = moment(day, clock, zone)
    return first if first > after else moment(day + timedelta(days=1), clock, zone)


def parse(line: str) -> Cron:
    """A cron line as sets. Raises UsageError naming the field and what is allowed."""
    fields = line.split()
    if len(fields) not in (5, 6):
        raise UsageError(
            f"{line!r} has {len(fields)} fields, a cron line has 5 (or 6 with seconds)",
            'for example: --cron "0 1 * * *"',
        )
    sets = [_field(text, *FIELDS[i]) for i, text in enumerate(fields)]
    seconds = sets[5] if len(sets) == 6 else frozenset({0})
    weekdays = frozenset(day % 7 for day in sets[4])
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    return Cron(sets[0], sets[1], sets[2], sets[3], weekdays, seconds, either)


def zone_named(name: str) -> ZoneInfo:
    """The time zone called `name`. Raises UsageError."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UsageError(
            f"there is no time zone {name!r}", "give an IANA name such as Europe/Berlin or UTC"
        ) from None


def clock_time(text: str) -> time:
    """A time of day such as 07:00. Raises UsageError."""
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time of day", "for example: --until 07:00") from None


def _field(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        begin = low if span == "*" else _value(first, names, low)
        end = high if span == "*" or (slash and not dash) else _value(last or first, names, low)
        stride = int(step) if step.isdigit() else (0 if slash else 1)
        if begin is None or end is None or stride < 1 or not low <= begin <= end <= high:
            raise UsageError(
                f"cron: {part!r} cannot be a {name}",
                f"give *, numbers from {low} to {high}, ranges a-b, lists a,b or steps */n",
            )
        found.update(range(begin, end + 1, stride))
    return frozenset(found)


def _value(text: str, names: tuple[str, ...], low: int) -> int | None:
    if text in names:
        return names.index(text) + low
    return int(text) if text.isdigit() and text.isascii() else None
