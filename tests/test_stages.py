"""Parts of the stages that need no database: how responses are batched, when the gap is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eurekaflow.models.policy import Response, UpdateReport, Wave
from eurekaflow.tasks.sample import by_group
from eurekaflow.tasks.update import LARGE_GAP, warn_gap


def wave(group: int) -> Wave:
    return Wave(
        run_seed=0,
        step=0,
        group_index=group,
        slots=(0, 1, 2),
        prompt_ids=(1,),
        max_new_tokens=5,
    )


def response(slot: int) -> Response:
    empty = np.zeros(0)
    return Response(
        attempt_index=slot,
        token_ids=empty.astype(np.int32),
        logprobs=empty.astype(np.float32),
        mask=empty.astype(np.bool_),
        text="",
        finish="stop",
    )


def test_responses_that_end_in_any_order_are_stored_by_their_own_group() -> None:
    waves = [wave(4), wave(7), wave(4)]  # two waves of group 4
    ended = [(1, 0), (0, 0), (2, 1), (1, 2), (0, 2), (1, 1)]
    stored = list(by_group(((i, response(slot)) for i, slot in ended), waves, 2))
    slots = [(group, [r.attempt_index for r in rows]) for group, rows in stored]
    assert slots == [(4, [0, 1]), (7, [0, 2]), (4, [2]), (7, [1])]


@pytest.mark.parametrize(("gap", "told"), [(4e-4, False), (2 * LARGE_GAP, True)])
def test_a_gap_between_sampler_and_trainer_is_told_when_it_is_large(
    gap: float, told: bool
) -> None:
    notes: list[dict[str, Any]] = []
    session: Any = SimpleNamespace(notify=lambda kind, **values: notes.append(values["metrics"]))
    warn_gap(session, 3, UpdateReport(metrics={"logprob_gap_half_mean_square": gap}))
    assert bool(notes) == told
    assert all("sampler and trainer disagree" in note["text"] for note in notes)
