"""Start or resume a run in this process: services up, run row, flow, summary."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eurekaflow.flows.hardware import refuse_other_gpu
from eurekaflow.flows.sitting import Night, machine, orchestrated, place
from eurekaflow.models.errors import NoValidAttempt, UsageError
from eurekaflow.models.states import RunState

if TYPE_CHECKING:
    from eurekaflow.flows.configure import Surroundings
    from eurekaflow.flows.standing import Goals
    from eurekaflow.models.archive import Archive, RunRow
    from eurekaflow.models.settings import RunConfig
    from eurekaflow.tasks.session import Listener, Session


LATEST = "latest"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a run stands when this process lets go of it."""

    run: str  # uuid
    problem: str
    metric: str
    state: str
    steps: int  # committed
    attempts: int
    valid: int
    best: float | None  # score, as papers print it
    seed: float | None  # best seed's score
    record: float | None
    record_holder: str = ""
    direction: str = "max"
    seconds: float = 0.0  # run time: the sum over committed stages
    ended_by: str | None = None  # the rule that ended it before its steps were used up
    message: str = ""  # the figures that the rule saw
    trust: str = "verified"


def start(config: RunConfig, surroundings: Surroundings, *, listener: Listener) -> Summary:
    """Create a run and discover until its budget ends."""
    from eurekaflow.models.archive import Archive

    with services(surroundings, listener) as url:
        archive = Archive(url)
        try:
            run = create(archive, config)
        finally:
            archive.close()
        return work(str(run.uuid), surroundings, url, listener)


def create(archive: Archive, config: RunConfig) -> RunRow:
    """A new run in the archive, its problem registered."""
    from eurekaflow.verifiers.lookup import load

    problem = load(config.problem)
    problem.require()
    problem.prove()
    archive.add_problem(
        problem.name,
        problem.version,
        direction=problem.direction,
        metric=problem.metric,
        records=[vars(r) for r in problem.records],
        trust=problem.trust,
    )
    return archive.add_run(
        problem=problem.name,
        config=config.model_dump(mode="json"),
        seed=config.seed,
        versions=versions(problem.version),
        fingerprint={},
        hardware=hardware(),
    )


def resume(
    ref: str, surroundings: Surroundings, *, goals: Goals | None = None, listener: Listener
) -> Summary:
    """Continue a run from the archive: the last unfinished one, or the one named.

    What survived and what will be redone is told before anything starts.
    """
    from eurekaflow.flows.standing import possible, prepare

    with services(surroundings, listener) as url:
        from eurekaflow.models.archive import Archive

        archive = Archive(url)
        try:
            run = newest_unfinished(archive) if ref == LATEST else archive.run(ref)
            possible(run, goals)  # before the run is taken from whoever has it
        finally:
            archive.close()
        return work(str(run.uuid), surroundings, url, listener, before=lambda s: prepare(s, goals))


def newest_unfinished(archive: Archive) -> RunRow:
    """The run that `eureka resume` means by no name."""
    found = archive.unfinished()
    if not found:
        raise UsageError("every run is finished", "lengthen one: eureka resume RUN --steps N")
    return found[0]


@contextlib.contextmanager
def services(surroundings: Surroundings, listener: Listener) -> Iterator[str]:
    """The archive's url, with the database and Prefect's server up while the block runs."""
    from eurekaflow.flows.connection import require_server
    from eurekaflow.flows.prefect_server import HEARTBEATS
    from eurekaflow.flows.services import open_services, prefect_environment
    from eurekaflow.models import schema
    from eurekaflow.tasks.session import Event

    require_server(surroundings)
    api = surroundings.prefect_api_url
    with open_services(
        surroundings.home,
        prefect=api is None,
        database_url=surroundings.database_url,
        on_wait=lambda text: listener(Event(kind="stage", stage=text)),
    ) as opened:
        schema.bootstrap(opened.database_url)
        if api is None:
            assert opened.api_url is not None
            os.environ.update(prefect_environment(surroundings.home, opened.api_url))
        os.environ.update(HEARTBEATS)  # before prefect is imported, for a server of any origin
        yield opened.database_url


def work(
    run_id: str,
    surroundings: Surroundings,
    url: str,
    listener: Listener,
    *,
    before: Callable[[Session], None] = lambda s: None,
    night: Night | None = None,
) -> Summary:
    """Run the flow to its end in this process, then let go of the run in the right state.

    `before` is called once the run is owned and before its policy is loaded.
    """
    from eurekaflow.tasks import session

    session.configure(place(surroundings, url, listener, night))
    s = session.of(run_id)
    found: RunRow | None = s.run
    state: RunState | None = RunState.PAUSED  # what an interrupt leaves behind
    told = False
    try:
        _ = s.hold  # refused here, before a flow run exists, when another process owns it
        refuse_other_gpu(s.problem, s.run)
        s.notify("run", metrics={"run": run_id, "problem": s.problem.name})
        before(s)
        found = None  # from here on a failure is the run's
        with machine(s, owner=night.owner if night else f"run {run_id[:8]}"):
            open_policy(s)
            orchestrated(s)
        state, told = None, True
        return summary(s, state=RunState(s.archive.run(s.run.id).state))
    except Exception as error:
        if state is not None:
            state = None
            with contextlib.suppress(Exception):  # the first error is the one to show
                let_go(s, error, found)
        raise
    finally:
        ours = "hold" in vars(s)
        with contextlib.suppress(Exception):
            session.close(run_id, state)
        if ours and not told:
            leave_page(url, surroundings.home, run_id)


def leave_page(url: str, home: Path, run_id: str) -> None:
    """The report of a run that was broken off: what it has is there in the morning, too."""
    from eurekaflow.flows import report

    with contextlib.suppress(Exception):  # why it broke off is what has to be told
        report.write(report.of_run(url, run_id), home / "reports")


def let_go(s: Session, error: Exception, found: RunRow | None) -> None:
    """Record an error: not on a run that is another's, nor what could not be begun on `found`."""
    if "hold" not in vars(s):
        return
    if found is not None and isinstance(error, UsageError):
        s.archive.put_back(s.hold, found)
    else:
        s.archive.finish(s.hold, RunState.FAILED, str(error))


def open_policy(s: Session) -> None:
    """Load the policy before the clock of the run starts; say when bits may differ from before.

    What differs from the run's recorded versions and fingerprint is marked on the steps to come.
    """
    s.notify("stage", stage="loading the policy")
    now = {**s.policy.fingerprint(), "sandbox": f"{s.sandbox.name}: {', '.join(s.sandbox.layers)}"}
    stored = s.archive.record_fingerprint(s.hold, now)
    machine = differences(stored, now | dict.fromkeys(stored.keys() - now.keys(), ""))
    programs = differences(s.run.versions, versions(s.problem.version))
    s.changed = machine | programs
    for text in promises(machine, programs, exact=s.policy.replay == "exact"):
        if s.archive.step_rows(s.run.id):
            s.notify("note", metrics={"text": text})


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is not as recorded: name -> [recorded, now]. What was never recorded cannot differ."""
    return {k: [str(v), str(now[k])] for k, v in stored.items() if k in now and now[k] != v}


def promises(
    machine: Mapping[str, Sequence[str]], programs: Mapping[str, Sequence[str]], *, exact: bool
) -> Iterator[str]:
    """What may be expected of a resumed run: identical or equivalent, and why."""
    if programs:
        told = ", ".join(f"{name} {now} (was {was})" for name, (was, now) in programs.items())
        yield f"other versions than the run was made with: {told}; its steps are marked"
    if machine:
        yield f"resumed on other {', '.join(sorted(machine))}: equivalent, not identical"
    elif not exact:
        yield "this device does not promise equal bits: equivalent, not identical"
    elif programs:
        yield "same fingerprint, other versions: equivalent, not identical"
    else:
        yield "same fingerprint: identical to a run that was never interrupted"


def summary(s: Session, *, state: RunState) -> Summary:
    """How the run stands. Raises NoValidAttempt."""
    from eurekaflow.verifiers.problem import TRAINING

    totals = s.archive.totals(s.run.id)
    record = s.problem.record(mode=TRAINING)
    if totals.best is None and state is RunState.FINISHED:
        raise NoValidAttempt(
            f"run {s.run.uuid} ended after {totals.steps} steps without one valid attempt",
            f"eureka show {s.run.uuid} tells what failed and why",
        )
    seed = None if totals.seed == s.problem.unmeasured else totals.seed
    return Summary(
        run=str(s.run.uuid),
        problem=s.problem.name,
        metric=s.problem.metric,
        state=str(state),
        steps=totals.steps,
        attempts=totals.attempts,
        valid=totals.valid,
        best=None if totals.best is None else s.problem.score(totals.best),
        seed=None if seed is None else s.problem.score(seed),
        record=record.score if record else None,
        record_holder=record.holder if record else "",
        direction=s.problem.direction,
        seconds=totals.seconds,
        trust=s.problem.trust,
        ended_by=None if s.ending is None else s.ending.rule,
        message="" if s.ending is None else s.ending.message,
    )


def versions(problem_version: str) -> dict[str, str]:
    """The versions a run was made with."""
    from eurekaflow.models.prompt import TEMPLATE_VERSION

    return {
        "eurekaflow": importlib.metadata.version("eurekaflow"),
        "template": TEMPLATE_VERSION,
        "problem": problem_version,
    }


def hardware() -> dict[str, Any]:
    """The machine, as far as results depend on it."""
    from eurekaflow.verifiers.gpu_problem import gpu_model

    gpu = gpu_model()
    return {
        **({"gpu": gpu} if gpu else {}),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": len(os.sched_getaffinity(0)),
    }
