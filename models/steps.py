"""Writing responses and verdicts; each call is one fenced transaction that may be repeated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import Connection

from eurekaflow.models import arrays, database
from eurekaflow.models.bodies import Contents
from eurekaflow.models.errors import UsageError
from eurekaflow.models.planning import Planning
from eurekaflow.models.policy import Response
from eurekaflow.models.registry import jsonb
from eurekaflow.models.rows import StoreCount, VerdictRow
from eurekaflow.models.states import OUTCOMES, STAGE_OF, STAGES
from eurekaflow.models.text import escape

_STORED = """
    select a.attempt_index, a.id, a.response_hash, t.ids, t.logprobs, t.mask, a.state
    from archive.attempts a left join archive.tokens t on t.attempt_id = a.id
    where a.run_id = %s and a.step = %s and a.group_index = %s and a.attempt_index = any(%s)"""
_TOKENS = """
    insert into archive.tokens (attempt_id, ids, logprobs, mask)
    values (:id, :ids, :logprobs, :mask)"""
_SAMPLED = """
    update archive.attempts set state = 'sampled', response_hash = :response, finish = :finish,
        forced = :forced, response_tokens = :length, sampled_at = now()
    where id = :id and state = 'planned'"""
_OPEN = """
    select id from archive.attempts
    where run_id = :run and step = :step and id = any(:ids) and state = 'sampled'"""
_VERIFIED = """
    update archive.attempts set state = 'verified', outcome = :outcome, value = :value,
        reward = :reward, message = :message, archivable = :archivable, dedupe_key = :dedupe,
        program_hash = :program, construction_hash = :construction, stdout_hash = :stdout,
        metrics = :metrics, queue_s = :queue_s, run_s = :run_s, cpu_s = :cpu_s, worker = :worker,
        verified_at = now()
    where id = :id"""
_LOST = """
    update archive.attempts set state = 'lost', message = :message
    where run_id = :run and step = :step and id = any(:ids) and state in ('planned', 'sampled')"""
_FAILED = """
    update archive.steps set metrics = metrics || jsonb_build_object('failures',
        coalesce(metrics->'failures', '{}') || jsonb_build_object(cast(:reason as text),
            coalesce((metrics->'failures'->>:reason)::int, 0) + 1))
    where run_id = :run and step = :step
    returning (metrics->'failures'->>:reason)::int as times"""
_STAGE_DONE = """
    update archive.steps set
        seconds = jsonb_build_object(cast(:name as text), cast(:seconds as float8)) || seconds,
        stage = case when stage = any(:before) then :stage else stage end
    where run_id = :run and step = :step"""
_MOVED_HERE = ("sample", "verify")  # the other stages end in a transaction of their own


class Steps(Planning):
    """What sampling and verification bring in."""

    @database.repeated
    def store_responses(
        self, hold: database.Fence, step: int, group_index: int, responses: Sequence[Response]
    ) -> StoreCount:
        """Store sampled responses of a group with their tokens, as `store_groups` does."""
        return self.store_groups(hold, step, {group_index: responses})

    @database.repeated
    def store_groups(
        self, hold: database.Fence, step: int, answers: Mapping[int, Sequence[Response]]
    ) -> StoreCount:
        """Store responses of several groups, by group index, in one transaction.

        Stored rows are kept and compared. An attempt that was given up meanwhile stays so, without
        a response. Raises UsageError for a slot that was never planned.
        """
        with self._write(hold, "store_responses") as connection:
            counts = [
                _store_group(connection, (hold.run_id, step, group), responses)
                for group, responses in answers.items()
            ]
        return StoreCount(
            inserted=sum(count.inserted for count in counts),
            identical=sum(count.identical for count in counts),
            different=sum(count.different for count in counts),
        )

    @database.repeated
    def store_verdicts(
        self, hold: database.Fence, step: int, verdicts: Sequence[VerdictRow]
    ) -> int:
        """Store verdicts of sampled attempts; how many were new. Old verdicts never change."""
        checked = {verdict.attempt_id: _checked(verdict) for verdict in reversed(verdicts)}
        with self._write(hold, "store_verdicts") as connection:
            ids = list(checked)
            found = database.rows(connection, _OPEN, run=hold.run_id, step=step, ids=ids)
            new = [checked[row.id] for row in found]
            contents = Contents()
            values = [_verdict_values(verdict, contents) for verdict in new]
            contents.write(connection)
            database.many(connection, _VERIFIED, values)
        return len(new)

    @database.repeated
    def abandon(
        self, hold: database.Fence, step: int, attempt_ids: Sequence[int], message: str
    ) -> int:
        """Mark attempts that infrastructure gave no verdict as lost; how many were."""
        with self._write(hold, "abandon") as connection:
            values = {"ids": list(attempt_ids), "message": escape(message)}
            return database.run(connection, _LOST, run=hold.run_id, step=step, **values)

    def note_failure(self, hold: database.Fence, step: int, reason: str) -> int:
        """Remember in the step's metrics why it failed; how often it has for that reason."""
        with self._write(hold, "note_failure") as connection:
            values = {"reason": escape(reason), "run": hold.run_id, "step": step}
            return int(database.one(connection, _FAILED, **values).times)

    @database.repeated
    def stage_done(self, hold: database.Fence, step: int, stage: str, seconds: float) -> None:
        """Record a stage's seconds, the first time only; moves `sample` and `verify` on."""
        goal = STAGE_OF[stage]
        before = [str(value) for value in STAGES[: STAGES.index(goal)]]
        values = {
            "name": stage,
            "seconds": float(seconds),
            "stage": str(goal),
            "before": before if stage in _MOVED_HERE else [],
        }
        with self._write(hold, "stage_done") as connection:
            database.run(connection, _STAGE_DONE, run=hold.run_id, step=step, **values)


def _store_group(
    connection: Connection, place: tuple[int, int, int], responses: Sequence[Response]
) -> StoreCount:
    """The responses of one group of a step, `place` = (run, step, group)."""
    slots = [response.attempt_index for response in responses]
    found = database.binary_rows(connection, _STORED, (*place, slots))
    stored = {row[0]: row[1:] for row in found}
    if unknown := sorted(set(slots) - stored.keys()):
        raise UsageError(f"step {place[1]} group {place[2]} has no slots {unknown}")
    new = [r for r in responses if stored[r.attempt_index][-1] == "planned"]
    _insert_responses(connection, [(stored[r.attempt_index][0], r) for r in new])
    replayed = [r for r in responses if stored[r.attempt_index][2] is not None]
    same = sum(_same(response, stored[response.attempt_index]) for response in replayed)
    return StoreCount(inserted=len(new), identical=same, different=len(replayed) - same)


def _insert_responses(connection: Connection, new: Sequence[tuple[int, Response]]) -> None:
    contents = Contents()
    tokens = [_token_values(attempt_id, response) for attempt_id, response in new]
    sampled = [
        {
            "id": attempt_id,
            "response": contents.text(response.text),
            "finish": response.finish,
            "forced": response.forced,
            "length": len(response.token_ids),
        }
        for attempt_id, response in new
    ]
    contents.write(connection)
    database.many(connection, _TOKENS, tokens)
    database.many(connection, _SAMPLED, sampled)


def _token_values(attempt_id: int, response: Response) -> dict[str, Any]:
    ids, logprobs, mask = _token_arrays(response)
    return {"id": attempt_id, "ids": ids, "logprobs": logprobs, "mask": mask}


def _token_arrays(response: Response) -> tuple[Any, Any, Any]:
    return (
        np.asarray(response.token_ids, dtype=np.int32),
        np.asarray(response.logprobs, dtype=np.float32),
        np.asarray(response.mask, dtype=np.bool_),
    )


def _same(response: Response, stored: Sequence[Any]) -> bool:
    """Whether a replayed response has the stored text and bit-identical tokens."""
    ids, logprobs, mask = _token_arrays(response)
    return (
        Contents().text(response.text) == stored[1]
        and np.array_equal(ids, stored[2])
        and logprobs.tobytes() == stored[3].tobytes()
        and np.array_equal(mask, stored[4])
    )


def _checked(verdict: VerdictRow) -> VerdictRow:
    """The verdict, or UsageError for one that no verifier may give."""
    valid = verdict.outcome == "valid"
    if verdict.outcome not in OUTCOMES or verdict.outcome == "seed":
        raise UsageError(f"attempt {verdict.attempt_id}: unknown outcome {verdict.outcome!r}")
    if valid and (verdict.value is None or not math.isfinite(verdict.value)):
        raise UsageError(f"attempt {verdict.attempt_id}: valid, but its value is {verdict.value}")
    if not math.isfinite(verdict.reward) or (not valid and verdict.reward != 0.0):
        raise UsageError(
            f"attempt {verdict.attempt_id}: {verdict.outcome} with reward {verdict.reward}"
        )
    return verdict if valid else replace(verdict, value=None)


def _verdict_values(verdict: VerdictRow, contents: Contents) -> dict[str, Any]:
    compared = verdict.construction if verdict.same_by == "construction" else None
    key = arrays.dedupe_key(compared, verdict.program or "")
    return {
        "id": verdict.attempt_id,
        "outcome": str(verdict.outcome),
        "value": verdict.value,
        "reward": float(verdict.reward),
        "message": escape(verdict.message),
        "archivable": verdict.archivable and verdict.outcome == "valid",
        "dedupe": key,
        "program": contents.program(verdict.program),
        "construction": contents.construction(verdict.construction),
        "stdout": contents.text(verdict.stdout),
        "metrics": jsonb(verdict.metrics),
        "queue_s": verdict.queue_s,
        "run_s": verdict.run_s,
        "cpu_s": verdict.cpu_s,
        "worker": escape(verdict.worker),
    }
