"""Parts of the stages that need no database: how responses are batched, when the gap is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eurekaflow.models.errors import ArchiveUnavailable, DeviceUnavailable, FencedOut
from eurekaflow.models.policy import Response, UpdateReport
from eurekaflow.tasks import session, verify
from eurekaflow.tasks.outbox import MOST, WAIT_S, Outbox
from eurekaflow.tasks.retry import told, transient
from eurekaflow.tasks.update import LARGE_GAP, warn_gap
from eurekaflow.verifiers.sandbox import SandboxUnavailable


class Stored(list[tuple[int, list[int]]]):
    """What was written: groups with their slots."""

    def __call__(self, answers: Mapping[int, list[Response]]) -> None:
        for group, rows in answers.items():
            self.append((group, [r.attempt_index for r in rows]))


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
    ended = [(7, 0), (4, 0), (4, 1), (7, 2), (4, 2), (7, 1)]
    stored = Stored()
    with Outbox(stored, every=2) as outbox:
        for group, slot in ended:
            outbox.add(group, response(slot))
    assert stored == [(4, [0, 1]), (7, [0, 2]), (4, [2]), (7, [1])]


def test_a_response_that_waits_for_others_is_stored_after_a_second() -> None:
    stored = Stored()
    with Outbox(stored, every=32) as outbox:
        outbox.add(4, response(0))
        deadline = time.monotonic() + 5 * WAIT_S
        while not stored and time.monotonic() < deadline:  # nothing else finishes
            time.sleep(0.05)
        assert stored == [(4, [0])]


def test_what_was_finished_is_stored_when_sampling_breaks() -> None:
    stored = Stored()

    def sampling() -> None:
        with Outbox(stored, every=32) as outbox:
            outbox.add(4, response(0))
            raise MemoryError

    with pytest.raises(MemoryError):
        sampling()
    assert stored == [(4, [0])]


def test_an_outbox_aside_does_not_store_in_the_samplers_thread() -> None:
    stored, free = Stored(), threading.Event()

    def slow(answers: Mapping[int, list[Response]]) -> None:
        assert free.wait(10)
        stored(answers)

    with Outbox(slow, every=1, aside=True) as outbox:
        for slot in range(3):
            outbox.add(4, response(slot))
        assert stored == []
        free.set()
    assert [slot for _, slots in stored for slot in slots] == [0, 1, 2]


def test_an_outbox_aside_waits_once_too_much_is_in_memory() -> None:
    begun, free, added = threading.Event(), threading.Event(), list[int]()

    def slow(answers: Mapping[int, list[Response]]) -> None:
        begun.set()
        assert free.wait(10)

    def sampling() -> None:
        with Outbox(slow, every=1, aside=True) as outbox:
            outbox.add(4, response(0))
            assert begun.wait(10)
            for slot in range(3 * MOST):
                outbox.add(4, response(slot))
                added.append(slot)

    thread = threading.Thread(target=sampling)
    thread.start()
    assert begun.wait(10)
    time.sleep(0.5)
    assert len(added) == MOST
    free.set()
    thread.join(10)
    assert len(added) == 3 * MOST


def test_an_archive_that_fails_behind_the_sampler_is_told_to_it() -> None:
    def broken(answers: Mapping[int, list[Response]]) -> None:
        raise ArchiveUnavailable("gone")

    def sampling() -> None:
        with Outbox(broken, every=32) as outbox:
            outbox.add(4, response(0))
            time.sleep(2 * WAIT_S)
            outbox.add(4, response(1))

    with pytest.raises(ArchiveUnavailable):
        sampling()


class Failing:
    """A failed task's state, as Prefect hands it to the retry condition."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def result(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError("the device has no memory for a single response"),
        OSError(5, "Input/output error"),
    ],
)
def test_a_fault_of_the_machine_is_named_and_retried(error: Exception) -> None:
    def work(run_id: str) -> None:
        raise error

    with pytest.raises(DeviceUnavailable) as fault:
        told(work)("no run")
    assert transient(None, None, Failing(fault.value))
    assert "resume" in fault.value.fix


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("shapes differ")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    def work(run_id: str) -> None:
        raise error

    with pytest.raises(type(error)):
        told(work)("no run")
    assert not transient(None, None, Failing(error))


class Signal(BaseException):
    """What a signal raises in a run that Prefect started."""


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), SandboxUnavailable("gone")])
def test_a_signal_whose_unwinding_fails_ends_the_stage_and_is_not_retried(
    error: Exception,
) -> None:
    def work(run_id: str) -> None:
        try:
            raise Signal
        finally:
            raise error

    with pytest.raises(Signal) as ended:
        told(work)("no run")
    assert not transient(None, None, Failing(ended.value))


@pytest.mark.parametrize("error", [FileNotFoundError("the folder moved"), ValueError("a bug")])
def test_an_owner_that_was_taken_over_blames_nothing_else(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(run_id: str) -> None:
        raise error

    def confirm() -> None:
        raise FencedOut("taken over")

    monkeypatch.setattr(session, "opened", lambda run_id: SimpleNamespace(confirm=confirm))
    with pytest.raises(FencedOut):
        told(work)("a run")


def test_verdicts_that_were_finished_are_stored_when_one_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = threading.Barrier(4)  # what has not begun is left for later

    def judge(s: Any, step: int, pending: Any, parent: Any) -> int:
        begun.wait(30)
        if pending.attempt_id == 0:
            raise SandboxUnavailable("no zygote starts")
        time.sleep(0.05 * pending.attempt_id)
        return int(pending.attempt_id)

    given, batch = judging(monkeypatch, judge, 4), list[Any]()
    with pytest.raises(SandboxUnavailable):
        batch.extend(row for rows in given for row in rows)
    assert sorted(batch) == [1, 2, 3]


def test_a_verdict_does_not_wait_for_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def judge(s: Any, step: int, pending: Any, parent: Any) -> int:
        if pending.attempt_id == 0:
            release.wait(30)
        return int(pending.attempt_id)

    given = judging(monkeypatch, judge, 3)
    assert sorted(next(given)) == [1, 2]  # type: ignore[type-var]
    release.set()
    assert [row for rows in given for row in rows] == [0]


def judging(monkeypatch: pytest.MonkeyPatch, judge: Any, count: int) -> Any:
    """Batches of `count` attempts, each judged by a thread of its own."""
    monkeypatch.setattr(verify, "judged", judge)
    monkeypatch.setattr(verify, "open_verifiers", lambda s: None)
    s: Any = SimpleNamespace(
        archive=SimpleNamespace(construction=lambda shown: None),
        config=SimpleNamespace(workers=count),
    )
    pending: Any = [SimpleNamespace(attempt_id=i, shown_id=0) for i in range(count)]
    return verify.batches(s, 0, pending)


@pytest.mark.parametrize(("gap", "told"), [(4e-4, False), (2 * LARGE_GAP, True)])
def test_a_gap_between_sampler_and_trainer_is_told_when_it_is_large(
    gap: float, told: bool
) -> None:
    notes: list[dict[str, Any]] = []
    session: Any = SimpleNamespace(notify=lambda kind, **values: notes.append(values["metrics"]))
    warn_gap(session, 3, UpdateReport(metrics={"logprob_gap_half_mean_square": gap}))
    assert bool(notes) == told
    assert all("sampler and trainer disagree" in note["text"] for note in notes)
