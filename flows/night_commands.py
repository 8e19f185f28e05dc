"""The commands `nightly …`: schedules, what their nights did, and the service that runs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from eurekaflow.flows.night_options import (
    amounts,
    archive,
    chosen_settings,
    local_timezone,
    next_due,
    show_in_prefect,
)
from eurekaflow.flows.options import Flag, Json
from eurekaflow.models.errors import UsageError

app = App(name="nightly", help="Discover every night, unattended.")
Policy = Literal["resume", "continue", "start"]
Repeated = Parameter(negative="")


@app.command
def add(
    problem: str,
    /,
    *,
    cron: str,
    name: str | None = None,
    timezone: str | None = None,
    until: str | None = None,
    policy: Policy = "continue",
    budget: Annotated[list[str] | None, Repeated] = None,
    most_resumes: int = 3,
    preset: str | None = None,
    model: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    config: Path | None = None,
) -> int:
    """Add a schedule: a night of discovery whenever the cron line is due.

    Parameters
    ----------
    problem
        Name of a problem (`eureka problems`), or the path of a problem file or folder.
    cron
        When it is due: minute hour day month weekday, such as "0 1 * * *".
    name
        What to call the schedule; the problem's name by default.
    timezone
        IANA time zone of the cron line and of --until; this machine's by default.
    until
        Time of day at which a night ends, such as 07:00; when the next is due, by default.
    policy
        After resuming what crashed: only resume, continue or lengthen the last run, or start
        a new one every night.
    budget
        What one night may spend, as kind=amount: attempts, steps, tokens, cpu_hours, gpu_hours
        or money; repeatable. Budgets of a whole run are settings: --set max_money=50.
    most_resumes
        Automatic resumes of a run that makes no progress.
    preset
        Sizes: auto, small-cpu, small-gpu or paper.
    model
        bundled, a GGUF file, a model folder, or a hub id.
    set_
        Any other setting of the runs as key=value; repeatable.
    config
        Configuration file instead of ./eureka.toml.
    """
    from eurekaflow.flows.configure import resolve
    from eurekaflow.flows.night_plan import plan_of
    from eurekaflow.flows.scoring import canonical
    from eurekaflow.flows.setting_sources import parse_assignments
    from eurekaflow.models import cron as crontab

    crontab.parse(cron)
    zone = timezone or local_timezone()
    crontab.zone_named(zone)
    chosen = {"preset": preset, "model": model}
    given = {k: v for k, v in chosen.items() if v is not None}
    overrides = parse_assignments(set_ or [], given=given)
    known = canonical(problem)
    resolved = resolve(known, overrides=overrides, config_file=config)
    plan = plan_of(
        {
            "problem": known,
            "policy": policy,
            "until": until,
            "most_resumes": most_resumes,
            "budget": amounts(budget or []),
            "settings": chosen_settings(resolved.rows(), overrides),
        }
    )
    with archive(make=True) as opened:
        row = opened.add_schedule(
            name or Path(known).stem,
            cron=cron,
            timezone=zone,
            plan=plan.model_dump(mode="json"),
        )
        show_in_prefect(opened)
        print(f"{row.name}: next due {next_due(row)}; run by: eureka nightly serve")
    return 0


@app.command(name="list")
def list_(*, json: Json = False) -> int:
    """List the schedules.

    Parameters
    ----------
    json
        Print JSON on stdout.
    """
    from eurekaflow.flows import rendering

    rows = []
    with archive() as opened:
        for row in opened.schedules():
            plan = row.plan
            rows.append(
                {
                    "name": row.name,
                    "problem": plan["problem"],
                    "cron": row.cron,
                    "timezone": row.timezone,
                    "until": plan.get("until"),
                    "policy": plan["policy"],
                    "next": None if row.paused else next_due(row),
                }
            )
    if json:
        rendering.print_json(rows)
    else:
        names = list(rows[0]) if rows else ()
        cells = [[r[n] for n in names] for r in rows]
        rendering.print_table(names, cells, empty='none yet: eureka nightly add erdos --cron "…"')
    return 0


@app.command
def status(name: str | None = None, /, *, json: Json = False) -> int:
    """What the last night of each schedule did, in one line, or why it did not start.

    Parameters
    ----------
    name
        One schedule and its last ten nights.
    json
        Print JSON on stdout.
    """
    from eurekaflow.flows import rendering
    from eurekaflow.flows.night_words import as_record, status_line

    with archive() as opened:
        rows = [opened.schedule(name)] if name else opened.schedules()
        records = []
        for row in rows:
            nights = opened.nights(row.id, 10 if name else 1)
            records += [as_record(opened, row, night) for night in nights]
            if not json and not nights:
                print(f"{row.name}: no night yet, next due {next_due(row)}")
            for record in records[-len(nights) :] if nights and not json else []:
                print(rendering.printable(status_line(record)))
    if json:
        rendering.print_json(records)
    return 0


@app.command
def remove(name: str, /) -> int:
    """Remove a schedule. Its nights and runs stay in the archive.

    Parameters
    ----------
    name
        The schedule.
    """
    with archive() as opened:
        opened.remove_schedule(name)
        show_in_prefect(opened)
    return 0


@app.command
def pause(name: str, /) -> int:
    """Leave out a schedule's nights until it is resumed.

    Parameters
    ----------
    name
        The schedule.
    """
    return _switch(name, paused=True)


@app.command
def resume(name: str, /) -> int:
    """Let a paused schedule's nights happen again, from now on.

    Parameters
    ----------
    name
        The schedule.
    """
    return _switch(name, paused=False)


@app.command
def run_now(name: str, /) -> int:
    """Have a night of a schedule now, in this process.

    Parameters
    ----------
    name
        The schedule.
    """
    from eurekaflow.flows.configure import quiet_prefect, surroundings
    from eurekaflow.flows.launch import services

    quiet_prefect()
    with archive() as opened:
        plan = opened.schedule(name).plan
    with services(surroundings(), lambda event: None):  # before prefect is imported
        from prefect import tags

        from eurekaflow.flows.nightly import nightly
        from eurekaflow.flows.prefect_tags import BY_HAND, OURS

        with tags(OURS, BY_HAND):  # by which its end is told and its death seen
            print(nightly(name, **plan))
    return 0


@app.command
def notify(url: str = "", /, *, off: Flag = False) -> int:
    """Post to a webhook whenever a night, or a run outside nights, has ended.

    Parameters
    ----------
    url
        Where to post; - reads it from stdin, which keeps a secret address out of the process list.
    off
        Post no more.
    """
    from eurekaflow.flows.configure import quiet_prefect, surroundings
    from eurekaflow.flows.launch import services

    address = sys.stdin.readline().strip() if url == "-" else url
    if not off and not address.startswith(("http://", "https://")):
        raise UsageError("this is no web address", "eureka nightly notify https://…")
    quiet_prefect()
    with services(surroundings(), lambda event: None):  # before prefect is imported
        from eurekaflow.flows import automations

        if off:
            automations.silence()
        else:
            automations.notify(address)
    return 0


@app.command
def serve(*, interval: float = 30.0, patience: float = 120.0) -> int:
    """Run the schedules until stopped: Prefect, a worker, and a look at both now and then.

    Parameters
    ----------
    interval
        Seconds between two looks.
    patience
        Seconds that Prefect has to begin a due night before this service does.
    """
    from eurekaflow.flows.configure import quiet_prefect, surroundings
    from eurekaflow.flows.night_service import serve as look_after

    quiet_prefect()
    look_after(surroundings(), interval_s=interval, patience_s=patience)
    return 0


def _switch(name: str, *, paused: bool) -> int:
    with archive() as opened:
        row = opened.change_schedule(name, paused=paused)
        show_in_prefect(opened)
    print(f"{name}: {'paused' if paused else f'next due {next_due(row)}'}")
    return 0
