"""Sample a step: every planned slot gets its response, wave by wave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from eurekaflow.models.errors import EurekaError
from eurekaflow.models.faultpoints import reach
from eurekaflow.models.policy import Prompt, Response, Wave
from eurekaflow.models.rows import GroupRow
from eurekaflow.models.states import AttemptState
from eurekaflow.tasks import session
from eurekaflow.tasks.metering import Meter, metered
from eurekaflow.tasks.outbox import Outbox
from eurekaflow.tasks.overlap import judging
from eurekaflow.tasks.poison import Culprit, give_up, tried
from eurekaflow.tasks.restore import make_resident
from eurekaflow.tasks.retry import stage
from eurekaflow.tasks.session import Session

STORE_EVERY = 8  # responses of a group per transaction
STORE_TOGETHER = 32  # where all groups are in flight and rows end faster
CLOSING_FENCE = "\n```"
Missing = Mapping[int, Sequence[int]]  # slots without a response, by group


@stage("sample")
def sample(run_id: str, step: int) -> int:
    """Fill the missing responses of a step; returns how many were stored by this call.

    Where the policy promises equal bits, an incomplete wave is replayed whole in its old shape and
    stored rows must be reproduced; elsewhere only the missing slots are asked for.
    """
    s = session.of(run_id)
    missing = s.archive.missing(s.run.id, step)
    if not missing:
        return 0
    s.notify("stage", step=step, stage="sample")
    with s.timed(step, "sample"), metered(s, step, "sample") as meter, judging(s, step):
        return fill(s, step, missing, meter)


def fill(s: Session, step: int, missing: Missing, meter: Meter) -> int:
    """Sample and store, a few rows per transaction, in the order they finish."""
    make_resident(s, step)
    _ = s.hold  # opened by this thread
    total, stored, poisoned = sum(map(len, missing.values())), 0, list[tuple[Wave, str]]()

    def store(work: Sequence[Wave]) -> None:
        length = {wave.group_index: len(wave.prompt_ids) for wave in work}

        def write(answers: Mapping[int, list[Response]]) -> None:
            nonlocal stored
            count = s.archive.store_groups(s.hold, step, answers)
            meter.tokens(
                read=sum(len(rows) * length[group] for group, rows in answers.items()),
                sampled=sum(len(r.token_ids) for rows in answers.values() for r in rows),
            )
            stored += count.inserted
            report(s, step, stored, total, count.different)

        every = STORE_EVERY if s.policy.replay == "exact" else STORE_TOGETHER
        with Outbox(write, every=every, aside=s.policy.concurrent) as outbox:
            for wave, response in s.policy.sample_together(work):
                outbox.add(work[wave].group_index, response)

    for wave in in_turn(s, step, missing, store):
        reach("sample.before_wave")
        result = tried(partial(store, (wave,)), partial(check_policy, s, wave))
        if isinstance(result, Culprit):
            poisoned.append((wave, result.reason))
        reach("sample.after_wave")
    set_aside(s, step, poisoned)
    return stored


def in_turn(
    s: Session, step: int, missing: Missing, store: Callable[[Sequence[Wave]], None]
) -> Sequence[Wave]:
    """The waves to take one by one: all where bits are promised, elsewhere what failed together.

    Where they are not, all are in flight first; an error then belongs to none in particular.
    """
    work = planned(s, step, missing)
    if s.policy.replay == "exact":
        return work
    try:
        store(work)
    except EurekaError:
        raise
    except Exception:  # raised again by the wave at fault, or by the policy's check
        return planned(s, step, s.archive.missing(s.run.id, step))
    return ()


def planned(s: Session, step: int, missing: Missing) -> list[Wave]:
    """The waves of a step that still lack a response."""
    return [
        wave
        for group in s.archive.groups(s.run.id, step)
        for wave in waves(s, step, group, missing.get(group.group_index, ()))
    ]


def check_policy(s: Session, wave: Wave) -> None:
    """Raise the policy's error unless it samples one token from the beginning of a prompt."""
    list(s.policy.sample(replace(
        wave, slots=(0,), prompt_ids=wave.prompt_ids[:8], max_new_tokens=1, stop=()
    )))  # fmt: skip


def set_aside(s: Session, step: int, poisoned: Sequence[tuple[Wave, str]]) -> None:
    """Give up the slots of waves that cannot be sampled, as far as they have no response."""
    reasons = {(w.group_index, slot): reason for w, reason in poisoned for slot in w.slots}
    rows = s.archive.attempts(s.run.id, step) if reasons else []
    lost = {
        row.id: reasons[place]
        for row in rows
        if row.state == AttemptState.PLANNED
        and (place := (row.group_index, row.attempt_index)) in reasons
    }
    give_up(s, step, lost, alone=len(lost) == len(rows))


def waves(s: Session, step: int, group: GroupRow, missing: Sequence[int]) -> Iterator[Wave]:
    """The waves of a group that still lack a response."""
    c = s.config
    own = step >= s.run.policy_from  # else an older policy began the step: nothing to replay
    ids = tuple(group.prompt_ids) if own else s.policy.encode(prompt_of(group))
    for first in range(0, c.group_size, c.wave):
        slots = tuple(range(first, min(first + c.wave, c.group_size)))
        lacking = tuple(i for i in slots if i in set(missing))
        if lacking:
            yield Wave(
                run_seed=c.seed,
                step=step,
                group_index=group.group_index,
                slots=slots if own and s.policy.replay == "exact" else lacking,
                prompt_ids=ids,
                max_new_tokens=c.max_new_tokens,
                temperature=c.temperature,
                stop=(CLOSING_FENCE,) if group.opening else (),
                phase1_tokens=c.phase1_tokens,
                window=c.window,
            )


def prompt_of(group: GroupRow) -> Prompt:
    """A planned group's prompt as it was rendered."""
    return Prompt(text=group.prompt, opening=group.opening)


def report(s: Session, step: int, stored: int, total: int, different: int) -> None:
    s.notify("progress", step=step, stage="sample", done=stored, total=total)
    if different:
        text = f"{different} replayed responses differ from the stored ones, which are kept"
        s.notify("note", step=step, metrics={"text": text})
