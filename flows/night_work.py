"""The work of a night: its machine, the runs it resumes, the run it continues or starts."""

from __future__ import annotations

import contextlib
import platform
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from eurekaflow.flows import launch
from eurekaflow.flows.configure import surroundings
from eurekaflow.flows.night_plan import OFF, Due, Plan, deadline, newest_due
from eurekaflow.flows.night_runs import Shift, choose, owner, restart, short, wants_restart
from eurekaflow.flows.prefect_faults import is_cancelled
from eurekaflow.flows.rendering import number
from eurekaflow.flows.sitting import Night, take_machine
from eurekaflow.flows.standing import Goals, prepare
from eurekaflow.models.archive import Archive
from eurekaflow.models.daemons import is_alive
from eurekaflow.models.errors import EurekaError, RunOwned
from eurekaflow.models.machine_lock import MachineLock
from eurekaflow.models.nights import NightRow, ScheduleRow
from eurekaflow.models.states import NightState, RunState
from eurekaflow.tasks.session import Event

MOST_RESTARTS = 10  # of one night
MACHINE_POLL_S = 5.0
Finder = Callable[[Archive], int | Due | None]


def spend_night(name: str, plan: Plan, *, due: Finder, flow_run: str | None = None) -> str:
    """Find out which night it is, claim it and work through it; what it did, in one line.

    A failure is recorded as the night's end and raised again.
    """
    here = surroundings()
    with launch.services(here, tell) as url:
        archive = Archive(url)
        try:
            row = archive.schedule(name)
            night = claim(archive, row, plan, due(archive), flow_run)
            if night is None:
                return "no night is due, or it is over already"
            return attend(Shift(archive, url, here, row, plan, night))
        finally:
            archive.close()


def claim(
    archive: Archive, row: ScheduleRow, plan: Plan, found: int | Due | None, flow_run: str | None
) -> NightRow | None:
    """The night's row, ours to work on; None when nothing is to be done."""
    if isinstance(found, int):
        known = next((n for n in archive.nights(row.id, 1000) if n.id == found), None)
        if known is None:
            return None
        end = known.deadline_at or deadline(row, plan, known.due_at)
        found = Due(known.due_at, known.kind, end)
    elif found is None:
        found, missed = newest_due(row, plan, datetime.now(UTC))
        for due in missed:
            miss(archive, row, due)
        if found is None:
            return None
    elif found.kind == "by_hand":
        found = replace(found, deadline=deadline(row, plan, found.at))
    return archive.begin_night(
        row.id,
        found.at,
        kind=found.kind,
        host=platform.node(),
        deadline=found.deadline,
        flow_run=flow_run,
    )


def miss(archive: Archive, row: ScheduleRow, due: datetime, fault: str = "") -> None:
    """Record a night that did not happen, and have Prefect tell of it, once."""
    from eurekaflow.flows.deployments import declare_missed

    text = reason(row.name, due, fault)
    if archive.add_missed(row.id, due, text):
        with contextlib.suppress(Exception):  # Prefect may be what was missing
            declare_missed(row.name, f"the night due {due:%Y-%m-%d %H:%M} UTC was missed; {text}")


def reason(name: str, due: datetime, fault: str = "") -> str:
    """Why a night was missed: how its flow run ended, else the service's own fault, else OFF."""
    from eurekaflow.flows.deployments import why_not

    said = ""
    with contextlib.suppress(Exception):  # Prefect may be what was missing
        said = why_not(name, due)
    if said:
        return f"it did not start, its flow run ended as {said}"
    return f"it did not start: {fault}" if fault else OFF


def attend(shift: Shift) -> str:
    """Work through a night and record how it ended."""
    night, archive = shift.night, shift.archive
    try:
        with MachineLock(shift.url, f"night {night.id}", owner=owner(shift)):
            if night.starts > shift.plan.most_resumes + 1:
                raise EurekaError(
                    f"begun {night.starts - 1} times and never ended; left alone",
                    "eureka doctor; see the runs: eureka runs",
                )
            with machine(shift):
                message = "; ".join(sittings(shift)) or "nothing to do"
    except RunOwned as error:
        if error.message.startswith(f"night {night.id} "):
            return f"{error.message}: nothing done here"
        archive.end_night(night.id, NightState.FAILED, f"did not start: {error.message}")
        raise
    except Exception as error:
        said = error.message if isinstance(error, EurekaError) else str(error)
        kind = "" if isinstance(error, EurekaError) else f"{type(error).__name__}: "
        archive.end_night(night.id, NightState.FAILED, f"{kind}{said}")
        raise
    except BaseException:  # a signal: the runs are saved
        if stopped_on_purpose():
            text = "cancelled in Prefect, everything saved; Retry there goes on with it"
            archive.end_night(night.id, NightState.FAILED, text)
        raise  # otherwise the night counts as crashed, and is begun again
    if shift.faults:  # a run that broke is reported as what never started is
        archive.end_night(night.id, NightState.FAILED, message)
        raise EurekaError(message, "eureka nightly status; eureka show says more of a run")
    archive.end_night(night.id, NightState.DONE, message)
    return message


def stopped_on_purpose() -> bool:
    """Whether the night's flow run was cancelled, rather than its service or machine stopped."""
    from prefect.runtime import flow_run

    try:
        return is_cancelled(str(flow_run.get_id()))
    except OSError:
        return False


@contextlib.contextmanager
def machine(shift: Shift) -> Iterator[None]:
    """The machine's device for this night alone, waited for until the night is over."""
    while True:
        try:
            held = take_machine(shift.url, owner=owner(shift))
            break
        except RunOwned:
            if shift.over:
                raise
            time.sleep(MACHINE_POLL_S)
    with held:
        yield


def sittings(shift: Shift) -> Iterator[str]:
    """Each run that the night works on, and how it stands afterwards."""
    shift.archive.expire_dead(socket.gethostname(), is_alive)
    crashed = shift.archive.crashed_runs(shift.row.id, most=shift.plan.most_resumes)
    for run, hopeful in crashed:
        if shift.over:
            return
        if hopeful:
            again = shift.archive.count_resume(run)
            yield f"resumed {short(run)} ({again} of {shift.plan.most_resumes}): " + sit(
                shift, run
            )
        else:
            yield leave(shift, run)
    if shift.over:
        yield "the deadline passed before anything new was begun"
        return
    handled = {run for run, _ in crashed}
    chosen, verb, steps = choose(shift)
    for _ in range(MOST_RESTARTS):
        if chosen is None:
            yield verb
        if chosen is None or (chosen in handled and verb == "continued"):
            return
        yield f"{verb} {short(chosen)}: " + sit(shift, chosen, steps=steps)
        last = shift.archive.last_run(shift.row.id)
        if last is None or shift.plan.policy == "resume" or not wants_restart(last):
            return
        chosen, verb, steps = restart(shift, last)


def sit(shift: Shift, run: UUID, *, steps: int | None = None) -> str:
    """Work on one run until it or the night ends; how it stands. A failure is words, too.

    It is noted as well, so that the night goes on with its other runs and then counts as failed.
    """
    end = shift.night.deadline_at
    night = Night(
        id=shift.night.id,
        owner=owner(shift),
        deadline=None if end is None else end.timestamp(),
        budget=shift.plan.limits,
    )
    try:
        done = launch.work(
            str(run),
            shift.here,
            shift.url,
            tell,
            before=lambda s: prepare(s, Goals(steps=steps) if steps else None),
            night=night,
        )
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, EurekaError):
            text = error.message
        shift.faults.append(text)
        return f"stopped, {text}"
    best = "nothing valid yet" if done.best is None else f"best {number(done.best)}"
    why = f" ({done.ended_by}: {done.message})" if done.ended_by else ""
    return f"{done.steps} steps, {best}, {done.state}{why}"


def leave(shift: Shift, run: UUID) -> str:
    """Give up a run that keeps crashing, with a message on it."""
    row = shift.archive.run(run)
    text = f"crashed {shift.plan.most_resumes} times in a row without a finished step"
    with (
        contextlib.suppress(RunOwned),
        shift.archive.hold(row.id, owner=owner(shift)) as hold,
    ):
        said = f"{text}: {row.message}" if row.message else text
        shift.archive.finish(hold, RunState.FAILED, said, rule="poison")
        launch.leave_page(shift.url, shift.here.home, str(run))
        return f"left {short(run)} alone: {text}"
    return f"{short(run)} is owned by somebody"


def tell(event: Event) -> None:
    """A listener that prints what happens, one line each, for the flow run's log."""
    from eurekaflow.flows.progress import step_line

    if event.kind == "step":
        print(step_line(event), flush=True)
    elif event.kind == "note":
        print(f"note: {event.metrics.get('text', '')}", flush=True)
