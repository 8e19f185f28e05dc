"""A run's live resources, opened on demand: archive, lease, problem, policy, sandbox, judge.

Tasks take ids and find what they need through `of(run_id)`. A retry, a resumed process and a unit
test take the same path: whatever is absent is opened. `configure` says once, from the edge, where
things live; nothing here reads the environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from eurekaflow.models.archive import Archive
from eurekaflow.models.errors import ArchiveUnavailable, UsageError
from eurekaflow.models.ownership import Hold
from eurekaflow.models.policy import Policy
from eurekaflow.models.rows import RunRow
from eurekaflow.models.settings import RunConfig
from eurekaflow.models.spending import Spent
from eurekaflow.models.states import Stage, reached
from eurekaflow.models.throwaway import throwaway
from eurekaflow.tasks.sandboxes import open_sandbox
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import Problem
from eurekaflow.verifiers.sandbox import Limits, Sandbox


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something a person watching the run may want to see."""

    kind: str  # run, stage, progress, step, note
    step: int = -1
    stage: str = ""
    done: int = 0
    total: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)


SCRIPTED = "scripted:"
Listener = Callable[[Event], None]


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Why a run ends at a stage boundary: a rule, and its figures in words."""

    rule: str  # budget, target, record, flat, entropy, validity; deadline, night, disk, cancelled
    message: str
    pauses: bool = False  # it is to be continued later; otherwise the run is finished


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process finds its archive and keeps its files."""

    home: Path
    database_url: str = field(repr=False)
    make_policy: Callable[[RunConfig, Place], Policy] | None = None  # tests bring their own
    make_sandbox: Callable[[RunConfig], Sandbox] | None = None
    listener: Listener = lambda event: None
    night: int | None = None  # the night that this process works for
    deadline: float | None = None  # seconds since the epoch; ends at the next stage boundary
    night_budget: Mapping[str, float] = field(default_factory=dict)
    patience_s: float = 30.0  # how long a stage outlasts a database that is away
    lease_s: float = 60.0
    revive: Callable[[], object] = lambda: None  # starts the database again, where it is ours


class Session:
    """The live resources of one run in this process."""

    def __init__(self, run_id: str, place: Place) -> None:
        self.place = place
        self.archive = Archive(
            place.database_url, patience_s=place.patience_s, revive=place.revive
        )
        self.run: RunRow = self.archive.run(run_id)
        self.config = RunConfig.model_validate(self.run.config)
        self.folder = place.home / "runs" / str(self.run.uuid)
        self.changed: dict[str, Any] = {}  # versions and fingerprint that are not the run's
        self.spent_here: dict[tuple[int, str], Spent] = {}  # by step and stage, under this hold
        self.staged_here = ""  # the folder that this session's last update wrote
        self.asked_prefect = 0.0  # monotonic time at which Prefect was last asked for its word
        self.ending: Ending | None = None  # why the run ends before its steps are used up
        self._opened = contextlib.ExitStack()

    @cached_property
    def hold(self) -> Hold:
        """The lease: taken at the first write, renewed in the background, lost only by force."""
        owner = f"{socket.gethostname()}:{os.getpid()}"
        return self.archive.hold(self.run.id, owner=owner, lease_s=self.place.lease_s)

    @cached_property
    def problem(self) -> Problem:
        found = load(self.config.problem).with_cases(self.config.cases)
        found.require()
        return found

    @cached_property
    def policy(self) -> Policy:
        # Version 0 is drawn from the seed that the policy began with, in a fork too.
        first = self.config_of(self.run.policy_from)
        config = self.config.model_copy(update={"seed": first.seed})
        make = self.place.make_policy or local_policy
        return make(config, self.place)

    @cached_property
    def sandbox(self) -> Sandbox:
        if self.place.make_sandbox is not None:
            return self.place.make_sandbox(self.config)
        return open_sandbox(self.config, self.limits, timed=self.problem.timed)

    @property
    def limits(self) -> Limits:
        """What each candidate of the run may use."""
        limits = self.problem.limits(budget_s=self.config.budget_s)
        memory = max(self.config.memory_mb << 20, self.problem.memory()[0])
        return replace(limits, memory_bytes=memory)

    @cached_property
    def judge(self) -> Judge:
        baseline = self.config.advantage == "mean_baseline"
        service = ""
        if self.problem.service:
            service = self._opened.enter_context(throwaway(self.place.home))
        seconds = self.problem.verification_s
        return Judge(
            self.config.workers,
            wall_s=seconds,
            memory_bytes=self.problem.memory()[1],
            baseline=baseline,
            service=service,
        )

    def staging_folder(self, step: int) -> Path:
        """Where the update of a step stages its files: of this owner alone, by the epoch."""
        return self.folder / f"staging-{step}-{self.hold.epoch}"

    def replay_folder(self, step: int) -> Path:
        """Where a repeated update of a step stages its files."""
        return self.folder / f"replay-{step}-{self.hold.epoch}"

    def confirm(self) -> None:
        """Raise FencedOut unless the run is still ours: asked before files are touched."""
        self.archive.confirm(self.hold)

    def config_of(self, step: int) -> RunConfig:
        """The settings a step was worked on with: a fork's copied steps keep their own."""
        row = self.archive.step(self.run.id, step)
        if row is None or not row.settings:
            return self.config
        return self.config.model_copy(update=row.settings)

    def reload(self) -> None:
        """Read the run again, after its settings or its policy were changed."""
        self.run = self.archive.run(str(self.run.uuid))
        self.config = RunConfig.model_validate(self.run.config)

    def stage_reached(self, step: int, goal: Stage) -> bool:
        """Whether the step is at `goal` or beyond it."""
        row = self.archive.step(self.run.id, step)
        return row is not None and reached(row.stage, goal)

    @contextlib.contextmanager
    def timed(self, step: int, stage: str) -> Iterator[None]:
        """Record the seconds of a stage that ends well."""
        started = time.monotonic()
        yield
        self.archive.stage_done(self.hold, step, stage, time.monotonic() - started)

    def notify(self, kind: str, **values: Any) -> None:
        """Tell the listener; a broken display must not end a run."""
        try:
            self.place.listener(Event(kind=kind, **values))
        except Exception:
            self.place = replace(self.place, listener=lambda event: None)

    def drop(self, *names: str) -> None:
        """Close live resources (policy, sandbox, judge) that may be broken; next use reopens."""
        for name in names:
            if (opened := self.__dict__.pop(name, None)) is not None:
                opened.close()

    def close(self, state: str | None = None) -> None:
        """Release what was opened; `state` is the run's state when this process lets go."""
        opened = self.__dict__
        self.drop("policy", "sandbox", "judge")
        self._opened.close()
        if "hold" in opened:
            with contextlib.suppress(ArchiveUnavailable):  # the lock went with the server
                opened.pop("hold").release(state)
        self.archive.close()


_place: Place | None = None
_sessions: dict[str, Session] = {}


def configure(place: Place) -> None:
    """Say where this process finds its archive; called once by flows/."""
    global _place
    _place = place


def of(run_id: str) -> Session:
    """The session of a run, opened if absent."""
    if run_id not in _sessions:
        if _place is None:
            raise UsageError(
                "no archive is configured in this process", "start runs with `eureka run`"
            )
        _sessions[run_id] = Session(run_id, _place)
    return _sessions[run_id]


def opened(run_id: str) -> Session | None:
    """The session of a run, if this process has one open."""
    return _sessions.get(run_id)


def close(run_id: str, state: str | None = None) -> None:
    """Close a run's session if it is open."""
    session = _sessions.pop(run_id, None)
    if session is not None:
        session.close(state)


def script(model: str) -> list[str]:
    """The canned answers that `scripted:FILE` names. Raises UsageError."""
    file = Path(model.removeprefix(SCRIPTED))
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}", "name a JSON list of texts") from None
    if not isinstance(found, list) or not found or not all(isinstance(x, str) for x in found):
        raise UsageError(f"{file} holds no JSON list of texts", "name a JSON list of texts")
    return found


def local_policy(config: RunConfig, place: Place) -> Policy:
    """The policy that trains in this process; `scripted:FILE` answers from a JSON list."""
    if config.model.startswith(SCRIPTED):
        from eurekaflow.models.scripted import ScriptedPolicy

        return ScriptedPolicy(script(config.model), seed=config.seed)
    from eurekaflow.models.local import LocalPolicy
    from eurekaflow.models.weights import resolve_model

    folder = resolve_model(config.model, place.home / "models", offline=False)
    return LocalPolicy(
        folder,
        lora_rank=config.lora_rank,
        lora_alpha=config.lora_alpha,
        seed=config.seed,
        threads=config.threads,
        date=config.date,
        lora_experts=config.lora_experts,
    )
