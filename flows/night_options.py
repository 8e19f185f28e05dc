"""What the commands `nightly …` share: the archive they open, and how their options are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from eurekaflow.models.errors import UsageError

if TYPE_CHECKING:
    from eurekaflow.models.archive import Archive
    from eurekaflow.models.nights import ScheduleRow


@contextmanager
def archive(*, make: bool = False) -> Iterator[Archive]:
    """The archive of the schedules; made first where one may be. Raises NoArchive."""
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.connection import existing_archive, open_archive
    from eurekaflow.models.archive import Archive
    from eurekaflow.models.schema import bootstrap

    with (open_archive if make else existing_archive)(surroundings()) as url:
        bootstrap(url)
        opened = Archive(url)
        try:
            yield opened
        finally:
            opened.close()


def show_in_prefect(opened: Archive) -> None:
    """Let a Prefect server that runs know at once; `nightly serve` would in its next look."""
    import os
    import sys
    from datetime import UTC, datetime

    from eurekaflow.flows.configure import quiet_prefect, surroundings
    from eurekaflow.flows.prefect_server import prefect_environment, prefect_status

    here = surroundings()
    if here.prefect_api_url is None:
        found = prefect_status(here.home)
        if not found.running or found.api_url is None:
            return
        os.environ.update(prefect_environment(here.home, found.api_url, environment=os.environ))
    quiet_prefect()
    from eurekaflow.flows.deployments import synchronise

    try:
        synchronise(opened, datetime.now(UTC))
    except Exception as error:
        print(f"Prefect does not show it yet: {error}", file=sys.stderr)


def next_due(row: ScheduleRow) -> str:
    """When a schedule is due next, in its own time zone."""
    from datetime import UTC, datetime

    from eurekaflow.models import cron as crontab

    zone = crontab.zone_named(row.timezone)
    due = crontab.parse(row.cron).following(datetime.now(UTC), zone)
    return f"{due.astimezone(zone):%Y-%m-%d %H:%M %Z}"


def local_timezone() -> str:
    """This machine's time zone by its IANA name, UTC where it does not say."""
    import os

    if given := os.environ.get("TZ", "").lstrip(":"):
        return given
    target = os.path.realpath("/etc/localtime")
    return target.partition("zoneinfo/")[2] or "UTC"


def amounts(texts: list[str]) -> dict[str, str]:
    """Budgets given as kind=amount. Raises UsageError."""
    found = {}
    for text in texts:
        kind, sign, value = text.partition("=")
        if not sign or not value:
            raise UsageError(f"--budget {text!r} is not kind=amount", "--budget money=5")
        found[kind.strip().replace("-", "_")] = value.strip()
    return found


def chosen_settings(
    rows: list[tuple[str, object, str]], overrides: dict[str, object]
) -> dict[str, Any]:
    """Settings that somebody chose: those of the file and the flags, not of the machine."""
    machine = ("default", "hardware", "auto", "preset ", "argument", "steps was", "minutes was")
    found = {name: value for name, value, source in rows if not source.startswith(machine)}
    return {name: found.get(name, value) for name, value in {**found, **overrides}.items()}
