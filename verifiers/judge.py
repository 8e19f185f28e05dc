"""Turning executions into verdicts, in a pool of trusted worker processes with limits.

Contract:

- `Judge.verdict` is safe to call from many threads; each worker judges one answer at a time.
- An answer that the verifier rejects, trips over, or cannot finish within its limits is INVALID.
- A worker that is lost otherwise is replaced and the answer is judged once more; only workers that
  cannot be had at all raise, and they raise `JudgeUnavailable`. It never looks like a bad answer.
- Workers are exec'ed fresh interpreters with an empty environment, without torch or a database.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np

from eurekaflow.verifiers.judge_process import JudgeUnavailable, Worker, WorkerLost
from eurekaflow.verifiers.judge_worker import LIMITS_EXCEEDED
from eurekaflow.verifiers.problem import TRAINING, Outcome, Verdict
from eurekaflow.verifiers.sandbox import Cause, Execution
from eurekaflow.verifiers.stub import ARRAY

__all__ = ["STDOUT_CHARACTERS", "Judge", "JudgeUnavailable", "stdout_tail", "unparseable"]

STDOUT_CHARACTERS = 500  # of a parent's output shown to the next attempt
CUT = "[earlier output cut]\n"

_OUTCOMES = {
    Cause.RAISED: Outcome.RAISED,
    Cause.TIMEOUT: Outcome.TIMEOUT,
    Cause.MEMORY: Outcome.MEMORY,
    Cause.KILLED: Outcome.KILLED,
    Cause.NO_RESULT: Outcome.NO_RESULT,
    Cause.TOO_LARGE: Outcome.TOO_LARGE,
}


def unparseable(message: str = "no fenced program in the response") -> Verdict:
    """The verdict of a response without a program."""
    return Verdict(outcome=Outcome.UNPARSEABLE, message=message)


def stdout_tail(execution: Execution) -> str:
    """The last 500 characters of the output that was kept, marked when anything was cut."""
    text = (
        execution.stdout.decode("utf-8", errors="replace")
        .replace("\x00", "\\x00")
        .replace("\x00", "\N{REPLACEMENT CHARACTER}")
    )
    cut = len(text) > STDOUT_CHARACTERS or execution.stdout_dropped > 0
    return CUT + text[-STDOUT_CHARACTERS:] if cut else text


class Judge:
    """A pool of `workers` verifier processes, started when first needed."""

    def __init__(
        self,
        workers: int,
        *,
        wall_s: float = 30.0,
        memory_bytes: int = 4 << 30,
        answer_bytes: int = 64 << 20,
        baseline: bool = False,
        service: str = "",
    ) -> None:
        """`baseline` asks for the rewards of the estimator `mean_baseline`.

        `service` is the URL of the server that the problem needs, if it needs one.
        """
        self._service = service
        self._wall_s = wall_s
        self._memory_bytes = memory_bytes
        self._answer_bytes = answer_bytes
        self._baseline = baseline
        self._idle: list[Worker] = []
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(workers)
        self._closed = False

    def verdict(self, problem_spec: str, execution: Execution, *, mode: str = TRAINING) -> Verdict:
        """What became of one execution, measured in one of the problem's modes.

        In training, a value better than the published record is measured exactly where it can be.
        """
        tail = stdout_tail(execution)
        if execution.cause is not Cause.RETURNED or execution.result is None:
            outcome = _OUTCOMES.get(execution.cause, Outcome.NO_RESULT)
            return Verdict(outcome=outcome, message=execution.message, stdout=tail)
        header = {"problem": problem_spec, "json": True, "mode": mode}
        return self._judge(header, execution.result, tail)

    def verdict_of_text(self, problem_spec: str, text: str, *, mode: str = TRAINING) -> Verdict:
        """What a data answer (kinds `json` and `text`) is worth."""
        header = {"problem": problem_spec, "json": False, "mode": mode}
        return self._judge(header, text.encode("utf-8", errors="replace"), "")

    def close(self) -> None:
        """Stop the workers. Judging afterwards raises JudgeUnavailable."""
        with self._lock:
            self._closed = True
            workers, self._idle = self._idle, []
        for worker in workers:
            worker.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def pids(self) -> list[int]:
        """Process ids of the idle workers."""
        with self._lock:
            return [worker.pid for worker in self._idle]

    def _judge(self, header: dict[str, Any], payload: bytes, stdout: str) -> Verdict:
        if len(payload) > self._answer_bytes and not payload.startswith(ARRAY):  # not parsed
            message = f"the answer has {len(payload)} bytes, allowed are {self._answer_bytes}"
            return Verdict(outcome=Outcome.TOO_LARGE, message=message, stdout=stdout)
        header |= {"baseline": self._baseline, "service": self._service}
        with self._slots:
            reply, numbers = self._with_one_retry(lambda w: w.ask(header, payload, self._wall_s))
        return _verdict(reply, numbers, stdout)

    def _with_one_retry(
        self, ask: Callable[[Worker], tuple[dict[str, Any], bytes]]
    ) -> tuple[dict[str, Any], bytes]:
        """A crash may have come from outside, so one retry; then it is the answer's."""
        for last in (False, True):
            worker = self._take(fresh=last)
            try:
                answer = ask(worker)
            except WorkerLost as lost:
                worker.kill()
                if lost.over_limits:
                    return _invalid(LIMITS_EXCEEDED)
                if last and lost.from_outside:
                    raise JudgeUnavailable(f"two verifier workers were lost: {lost}") from lost
                if last:
                    return _invalid(f"verification crashed: {lost}")
            except BaseException:
                worker.kill()
                raise
            else:
                self._give_back(worker)
                return answer
        raise AssertionError("unreachable")

    def _take(self, *, fresh: bool) -> Worker:
        with self._lock:
            if self._closed:
                raise JudgeUnavailable("the judge is closed")
            if self._idle and not fresh:
                return self._idle.pop()
        return Worker(memory_bytes=self._memory_bytes, cpu_s=self._wall_s)

    def _give_back(self, worker: Worker) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(worker)
                return
        worker.stop()


def _invalid(message: str) -> tuple[dict[str, Any], bytes]:
    return {"outcome": Outcome.INVALID, "message": message}, b""


def _verdict(reply: dict[str, Any], numbers: bytes, stdout: str) -> Verdict:
    outcome = Outcome(reply["outcome"])
    construction = None
    if "shape" in reply:
        construction = np.frombuffer(numbers, dtype=np.float64).reshape(reply["shape"]).copy()
    return Verdict(
        outcome=outcome,
        value=reply.get("value"),
        reward=reply.get("reward", 0.0),
        message=reply.get("message", ""),
        construction=construction,
        stdout=stdout,
        metrics=reply.get("metrics", {}),
        mode=reply.get("mode", ""),
        exact=reply.get("exact", ""),
    )
