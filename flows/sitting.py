"""One sitting of a run in this process: its machine, its flow, and what bounds it at night."""

from __future__ import annotations

import contextlib
import contextvars
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eurekaflow.flows.hardware import gpu_present, visible_gpus
from eurekaflow.models.errors import EurekaError, RunOwned, interruption

if TYPE_CHECKING:
    from eurekaflow.flows.configure import Surroundings
    from eurekaflow.tasks.session import Listener, Place, Session

PREFECT_TRIALS = 3  # flow runs for one sitting, when Prefect goes away under them


@dataclass(frozen=True, kw_only=True)
class Night:
    """What unattended work adds to a run: until when, for how much, on whose account."""

    id: int
    owner: str  # as others are told who has the machine
    deadline: float | None  # seconds since the epoch
    budget: Mapping[str, float]


def place(surroundings: Surroundings, url: str, listener: Listener, night: Night | None) -> Place:
    """Where the run finds its archive and what bounds it."""
    from eurekaflow.tasks.session import Place

    plain = Place(home=surroundings.home, database_url=url, listener=listener)
    if surroundings.database_url is None:
        plain = replace(plain, revive=partial(restart_postgres, surroundings.home))
    if night is None:
        return plain
    return replace(plain, night=night.id, deadline=night.deadline, night_budget=dict(night.budget))


def restart_postgres(home: Path) -> None:
    """Start the embedded server again if it died; whether it answers shows at the next query."""
    from eurekaflow.models import postgres

    with contextlib.suppress(EurekaError, OSError):
        postgres.ensure(home)


@contextlib.contextmanager
def machine(s: Session, *, owner: str) -> Iterator[None]:
    """Keep the GPU to this run; on a CPU, keep nights away from a run started by hand.

    A night holds its machine already. Raises RunOwned naming who has the GPU.
    """
    if s.place.night is not None:
        yield
        return
    gpu = gpu_present(os.environ)
    try:
        held = take_machine(
            s.place.database_url,
            owner=owner,
            shared=not gpu,
            told=lambda text: s.notify("note", metrics={"text": text}),
        )
    except RunOwned as error:
        if gpu:
            raise
        s.notify("note", metrics={"text": f"{error.message}: both runs will be slower"})
        yield
        return
    with held:
        yield


def take_machine(
    url: str,
    *,
    owner: str,
    shared: bool = False,
    told: Callable[[str], object] = lambda text: None,
) -> contextlib.ExitStack:
    """The locks on every device that a run here may use, or none of them.

    `told` hears when one that was lost went to another. Raises RunOwned naming who has one.
    """
    from eurekaflow.models.machine_lock import MachineLock

    with contextlib.ExitStack() as held:
        for place in devices(os.environ):
            held.enter_context(MachineLock(url, place, owner=owner, shared=shared, told=told))
        return held.pop_all()


def devices(environ: Mapping[str, str]) -> list[str]:
    """What a run here works on, as the locks are called, in the order they are taken.

    A GPU goes by its own name: host names and numbers differ between containers that share it.
    """
    if not gpu_present(environ):
        return [f"{platform.node()} cpu"]
    shown = environ.get("CUDA_VISIBLE_DEVICES", "0")
    known = [f"gpu {uuid}" for uuid in visible_gpus(environ)]
    return known or [f"{platform.node()} gpu {shown}"]


def orchestrated(s: Session) -> None:
    """The flow; when Prefect's server or database goes away, it is brought back and joined again.

    The archive knows where the run stands, so a second flow run of it goes on there.
    """
    from prefect.exceptions import CancelledRun

    from eurekaflow.flows.ending import CANCELLED, conclude
    from eurekaflow.flows.prefect_faults import lost, revive

    for trial in range(PREFECT_TRIALS):
        try:
            # Once Prefect's records are gone, so is the flow run that this one would belong to.
            around = contextvars.Context() if trial else contextvars.copy_context()
            around.run(tagged, s)
            return
        except CancelledRun:  # the flow's own word for it, or Prefect's before it began
            s.ending = s.ending or CANCELLED
            conclude(s)
            return
        except Exception as error:
            if (signal := interruption(error, None)) is not None:
                raise signal from None
            if trial + 1 == PREFECT_TRIALS or not lost(error):
                raise
            text = f"Prefect did not answer ({type(error).__name__}); the run goes on"
            s.notify("note", metrics={"text": text})
            revive(s.place.home)


def tagged(s: Session) -> None:
    """The flow, recognisable as ours; its death is seen by Prefect, whoever's server it is."""
    from prefect.context import TagsContext
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    from eurekaflow.flows.automations import ensure, silent_is_crashed
    from eurekaflow.flows.discover import discover
    from eurekaflow.flows.prefect_tags import BY_HAND, OURS

    with contextlib.suppress(Exception), temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        ensure(silent_is_crashed())  # a server that has no automations will do
    # Not those of a night begun by hand as well, or its end would be told twice.
    with TagsContext(current_tags={OURS} if s.place.night is not None else {OURS, BY_HAND}):
        discover(str(s.run.uuid))
