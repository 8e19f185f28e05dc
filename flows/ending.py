"""Why a run ends before its steps are used up: the rules, asked before every stage.

Before each stage: cancelled in Prefect, the night's deadline, the disk. Before each step also:
budgets of run and night, target, record, and the signs of being stuck. A step is not begun when
it would pass a budget by costing what the last one did. What each rule means for the run stands
in `RULES`; the figures it saw are the ending's message.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise

from eurekaflow.flows.diagnosis import amount
from eurekaflow.flows.forecast import one_step, pace
from eurekaflow.flows.hardware import free_disk
from eurekaflow.flows.prefect_faults import is_cancelled, revive
from eurekaflow.models.overview import StepSummary
from eurekaflow.models.spending import Spent
from eurekaflow.models.states import RunState
from eurekaflow.tasks.session import Ending, Session
from eurekaflow.verifiers.problem import TRAINING

ASK_PREFECT_S = 2.0  # between two looks at the flow run: each costs the server some 40 ms
COLLAPSED_STEPS = 3  # a single bad step is chance
CANCELLED = Ending(rule="cancelled", message="cancelled in Prefect, saved", pauses=True)
RUN_BUDGETS = {
    "max_attempts": "attempts",
    "max_tokens": "tokens",
    "max_cpu_hours": "cpu_hours",
    "max_gpu_hours": "gpu_hours",
    "max_money": "money",
}


def ending(s: Session, step: int, stage: str) -> Ending | None:
    """The first rule that ends the run before this stage, or None."""
    rules: list[Callable[[], Ending | None]] = [
        lambda: cancelled(s),
        lambda: deadline(s, step, stage),
        lambda: disk(s),
    ]
    if stage == "plan" and s.archive.step(s.run.id, step) is None:
        rules += [lambda: budgets(s, step), lambda: reached(s, step), lambda: stuck(s, step)]
    else:
        rules += [lambda: over_budget(s)]
    return next((found for rule in rules if (found := rule()) is not None), None)


def conclude(s: Session) -> RunState:
    """Record how the run stands and which rule ended it; a second call changes nothing."""
    found = s.ending
    state = RunState.PAUSED if found is not None and found.pauses else RunState.FINISHED
    message, rule = ("", None) if found is None else (found.message, found.rule)
    s.archive.finish(s.hold, state, message, rule=rule)
    return state


def cancelled(s: Session) -> Ending | None:
    """Whether somebody cancelled the flow run. A server that is gone is brought back meanwhile."""
    from prefect.runtime import flow_run

    here = flow_run.get_id()
    if here is None or time.monotonic() - s.asked_prefect < ASK_PREFECT_S:
        return None
    s.asked_prefect = time.monotonic()
    try:
        stop = any(map(is_cancelled, {here, topmost(here)}))
    except OSError:
        s.notify("note", metrics={"text": "Prefect does not answer; it is brought back"})
        with contextlib.suppress(Exception):  # the run does not need it
            revive(s.place.home)
        return None
    return CANCELLED if stop else None


@lru_cache(maxsize=4)
def topmost(flow_run_id: str) -> str:
    """The flow run that a flow run belongs to: a night's, or itself."""
    from prefect.runtime import flow_run

    try:
        return flow_run.get_root_flow_run_id() or flow_run_id
    except Exception:
        return flow_run_id


def deadline(s: Session, step: int, stage: str) -> Ending | None:
    """Whether the night is over, or would be before the stage ends, by its last duration.

    The first stage of a sitting is begun in any case, or a night shorter than a stage would
    never get anywhere.
    """
    if s.place.deadline is None:
        return None
    left = s.place.deadline - time.time()
    last = s.archive.step(s.run.id, step - 1) if step else None
    expected = float(last.seconds.get(stage, 0.0)) if last is not None else 0.0
    if left > expected or (left > 0 and not s.spent_here):
        return None
    words = "passed" if left <= 0 else f"{left:.0f} s away, {stage} takes about {expected:.0f} s"
    return Ending(rule="deadline", message=f"the deadline is {words}".strip(), pauses=True)


def disk(s: Session) -> Ending | None:
    """Whether the disk is nearly full: less free than the reserve and one more checkpoint."""
    largest = max((row.size_bytes for row in s.archive.checkpoints(s.run.id)), default=0)
    needed = (s.config.disk_reserve_mb << 20) + 2 * largest
    if (free := free_disk(s.place.home)) >= needed:
        return None
    text = f"only {free >> 20} MiB are free in {s.place.home}, {needed >> 20} are kept in reserve"
    return Ending(rule="disk", message=text, pauses=True)


def limits(s: Session) -> Iterator[tuple[str, float, Spent, bool]]:
    """(kind, limit, spent, of the night) of every budget that is set."""
    spent = s.archive.spent(s.run.id)
    for setting, kind in RUN_BUDGETS.items():
        if (limit := getattr(s.config, setting)) is not None:
            yield kind, float(limit), spent, False
    if s.place.night is not None and s.place.night_budget:
        tonight = s.archive.spent_in_night(s.place.night)
        for kind, limit in s.place.night_budget.items():
            yield kind, float(limit), tonight, True


def budgets(s: Session, step: int) -> Ending | None:
    """Whether one more step, costing what the last one did, would pass a budget.

    The first is expected to cost what `eureka run --dry-run` says of a step.
    """
    if step:
        next_step = s.archive.spent_in_step(s.run.id, step - 1)
    else:
        next_step = one_step(s.config, pace(s.place.database_url, s.config))
    size = s.config.groups * s.config.group_size
    for kind, limit, spent, nightly in limits(s):
        used = spent.amount(kind)
        known = {"attempts": float(size), "steps": 1.0}
        more = known.get(kind, next_step.amount(kind))
        if used >= limit or used + more > limit * (1 + 1e-9):
            return _over(kind, used, limit, nightly, more=more)
    return None


def over_budget(s: Session) -> Ending | None:
    """Whether a budget is used up in the middle of a step."""
    for kind, limit, spent, nightly in limits(s):
        if kind not in ("attempts", "steps") and spent.amount(kind) >= limit:
            return _over(kind, spent.amount(kind), limit, nightly)
    return None


def reached(s: Session, step: int) -> Ending | None:
    """Whether the target is met or the record beaten."""
    if step == 0 or (s.config.target is None and not s.config.stop_on_record):
        return None
    best = s.archive.step_summary(s.run.id, step - 1).best_so_far
    if best is None:
        return None
    score, record = s.problem.score(best), s.problem.record(mode=TRAINING)
    if s.config.target is not None and best >= s.problem.value(s.config.target):
        return Ending(rule="target", message=f"{score:.10g} meets the target {s.config.target:g}")
    if s.config.stop_on_record and record and best > s.problem.value(record.score):
        text = f"{score:.10g} beats the record {record.score:.10g} ({record.holder})"
        return Ending(rule="record", message=text)
    return None


def stuck(s: Session, step: int) -> Ending | None:
    """Whether the last steps show no improvement, a collapsed entropy or hardly a valid answer."""
    c = s.config
    if c.stop_flat is None and c.stop_entropy is None and c.stop_validity is None:
        return None
    wanted = max(COLLAPSED_STEPS, (c.stop_flat or 0) + 1)
    first = max(0, step - wanted, s.run.policy_from)  # a fresh policy has a chance of its own
    steps = [s.archive.step_summary(s.run.id, i) for i in range(first, step)]
    if c.stop_flat is not None and len(steps) > c.stop_flat and flat(steps[-c.stop_flat - 1 :]):
        text = f"no improvement in {c.stop_flat} steps"
        return Ending(rule="flat", message=text)
    recent = steps[-COLLAPSED_STEPS:]
    if len(recent) < COLLAPSED_STEPS:
        return None
    entropy = [float(x.metrics.get("negative_logprob_mean", float("inf"))) for x in recent]
    if c.stop_entropy is not None and max(entropy) < c.stop_entropy:
        text = f"entropy {entropy[-1]:.3g} nats per token, below {c.stop_entropy:g}"
        return Ending(rule="entropy", message=f"{text} for {COLLAPSED_STEPS} steps")
    valid = [x.valid / max(x.attempts, 1) for x in recent]
    if c.stop_validity is not None and max(valid) < c.stop_validity:
        text = f"{valid[-1]:.0%} of the attempts valid, below {c.stop_validity:.0%}"
        return Ending(rule="validity", message=f"{text} for {COLLAPSED_STEPS} steps")
    return None


def flat(steps: list[StepSummary]) -> bool:
    """Whether the best so far is the same in every step."""
    best = [x.best_so_far for x in steps]
    return all(a == b for a, b in pairwise(best))


def _over(kind: str, used: float, limit: float, nightly: bool, *, more: float = 0.0) -> Ending:
    words = f"{amount(kind, used)} of {amount(kind, limit)} {kind.replace('_', ' ')} used"
    if used < limit:
        words += f", one more step takes about {amount(kind, more)}"
    if nightly:
        return Ending(rule="night", message=f"the night's budget: {words}", pauses=True)
    return Ending(rule="budget", message=words)
