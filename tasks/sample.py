"""Sample a step: every planned slot gets its response, wave by wave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from eurekaflow.models.policy import Prompt, Response, Wave
from eurekaflow.models.rows import GroupRow
from eurekaflow.tasks import session
from eurekaflow.tasks.metering import Meter, metered
from eurekaflow.tasks.restore import make_resident
from eurekaflow.tasks.retry import stage
from eurekaflow.tasks.session import Session

STORE_EVERY = 8  # responses per transaction
CLOSING_FENCE = "\n```"


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
    with s.timed(step, "sample"), metered(s, step, "sample") as meter:
        return fill(s, step, missing, meter)


def fill(s: Session, step: int, missing: Mapping[int, Sequence[int]], meter: Meter) -> int:
    """Sample and store, a few rows per transaction, in the order they finish."""
    make_resident(s, step)
    total, stored = sum(map(len, missing.values())), 0
    work = [
        wave
        for group in s.archive.groups(s.run.id, step)
        for wave in waves(s, step, group, missing.get(group.group_index, ()))
    ]
    length = {wave.group_index: len(wave.prompt_ids) for wave in work}
    for group_index, rows in by_group(s.policy.sample_together(work), work):
        count = s.archive.store_responses(s.hold, step, group_index, rows)
        meter.tokens(
            read=len(rows) * length[group_index], sampled=sum(len(r.token_ids) for r in rows)
        )
        stored += count.inserted
        report(s, step, stored, total, count.different)
    return stored


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


def by_group(
    responses: Iterator[tuple[int, Response]], waves: Sequence[Wave]
) -> Iterator[tuple[int, list[Response]]]:
    """(group, up to STORE_EVERY of its responses), in the order they finish."""
    rows: dict[int, list[Response]] = {}
    for wave, response in responses:
        group = waves[wave].group_index
        rows.setdefault(group, []).append(response)
        if len(rows[group]) == STORE_EVERY:
            yield group, rows.pop(group)
    yield from rows.items()


def report(s: Session, step: int, stored: int, total: int, different: int) -> None:
    s.notify("progress", step=step, stage="sample", done=stored, total=total)
    if different:
        text = f"{different} replayed responses differ from the stored ones, which are kept"
        s.notify("note", step=step, metrics={"text": text})
