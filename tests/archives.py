"""Short ways to fill an archive in tests: seeds, groups, responses, verdicts, whole steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eurekaflow.models.archive import (
    Archive,
    GroupRow,
    Hold,
    PlannedGroup,
    RunRow,
    SeedRow,
    VerdictRow,
)
from eurekaflow.models.policy import Response

STATE = """
    select coalesce(json_agg(t order by t::text), '[]')::text from (
        select to_jsonb(a) - 'eligible' as t from archive.attempts a
        union all select to_jsonb(g) from archive.groups g
        union all select to_jsonb(s) from archive.steps s
        union all select to_jsonb(t) from archive.tokens t
        union all select to_jsonb(c) from archive.checkpoints c
        union all select to_jsonb(l) from archive.ledger l
        union all select to_jsonb(b) from archive.bodies b) t"""


def new_run(archive: Archive, **config: Any) -> RunRow:
    """Another run with the given settings."""
    record = {"holder": "Somebody", "score": 0.5, "kind": "human", "source": "a paper"}
    archive.add_problem("toy", "1", "min", "length", [record])
    return archive.add_run(
        problem="toy", config=config, seed=7, versions={}, fingerprint={}, hardware={}
    )


def response(slot: int, text: str = "```python\npass\n```", *, length: int = 3) -> Response:
    """A response whose tokens follow from its slot."""
    return Response(
        attempt_index=slot,
        token_ids=np.arange(slot, slot + length, dtype=np.int32),
        logprobs=np.linspace(-1.0, -0.1, length, dtype=np.float32),
        mask=np.arange(length) > 0,
        text=text,
        finish="stop",
    )


def seeds(*values: float) -> list[SeedRow]:
    """One seed a value, in slots from 0."""
    return [SeedRow(slot=i, value=value, program=f"seed {i}") for i, value in enumerate(values)]


def planned(parent_id: int, group_index: int = 0, *, size: int = 4) -> PlannedGroup:
    """A group of `size` attempts from a parent."""
    return PlannedGroup(
        group_index=group_index,
        parent_id=parent_id,
        prompt="Find something.",
        prompt_ids=(1, 2, 3),
        group_size=size,
        opening="```python\n",
    )


def sample(archive: Archive, hold: Hold, groups: Sequence[GroupRow]) -> None:
    """Store a response in every slot."""
    for group in groups:
        answers = [response(slot) for slot in range(group.group_size)]
        archive.store_responses(hold, group.step, group.group_index, answers)


def verdict(attempt_id: int, value: float | None, program: str | None = None) -> VerdictRow:
    """A valid verdict of a value, or a failed one for None."""
    if value is None:
        return VerdictRow(attempt_id=attempt_id, outcome="raised", message="ValueError: no")
    return VerdictRow(
        attempt_id=attempt_id,
        outcome="valid",
        value=value,
        reward=abs(value),
        program=f"attempt {attempt_id}" if program is None else program,
        metrics={"terms": 3.0},
    )


def expand(
    archive: Archive,
    hold: Hold,
    step: int,
    children: Sequence[tuple[int, Sequence[float | tuple[float, str] | None]]],
    **settings: Any,
) -> list[list[int]]:
    """Run a whole step: for each (parent, values) a group; ids of its attempts.

    A value is None for a failure, or (value, program) to choose the program.
    """
    groups = archive.plan(
        hold, step, [planned(p, i, size=len(v)) for i, (p, v) in enumerate(children)]
    )
    sample(archive, hold, groups)
    rows = archive.attempts(hold.run_id, step)
    flat = [value for _, values in children for value in values]
    archive.store_verdicts(
        hold,
        step,
        [
            verdict(row.id, *value) if isinstance(value, tuple) else verdict(row.id, value)
            for row, value in zip(rows, flat, strict=True)
        ],
    )
    settle(archive, hold, step, **settings)
    return [[row.id for row in rows if row.group_index == g.group_index] for g in groups]


def settle(archive: Archive, hold: Hold, step: int, **settings: Any) -> None:
    """Settle a step with the method's defaults, or other settings."""
    defaults: dict[str, Any] = {
        "topk_children": 2,
        "archive_cap": 1000,
        "retention_scope": "parent",
        "visit_unit": "expansion",
    }
    archive.settle(hold, step, **{**defaults, **settings})


def state(archive: Archive) -> str:
    """Everything stored, as text."""
    return str(archive.query(STATE, as_reader=False)[1][0][0])


def planned_step(archive: Archive, hold: Hold, *, size: int = 4) -> list[int]:
    """Plan step 0 from one seed; ids of its attempts."""
    archive.add_seeds(hold, seeds(0.0))
    archive.plan(hold, 0, [planned(archive.attempts(hold.run_id, -1)[0].id, size=size)])
    return [row.id for row in archive.attempts(hold.run_id, 0)]
