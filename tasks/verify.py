"""Verify a step: every response gets its verdict, in the sandbox and before the judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice

import numpy as np

from eurekaflow.models.faultpoints import reach
from eurekaflow.models.rows import Pending, VerdictRow
from eurekaflow.models.states import Stage
from eurekaflow.tasks import session
from eurekaflow.tasks.metering import metered
from eurekaflow.tasks.poison import Culprit, give_up, tried
from eurekaflow.tasks.retry import stage
from eurekaflow.tasks.session import Session
from eurekaflow.verifiers.allotment import LAYER, run_fairly
from eurekaflow.verifiers.contest import Contest
from eurekaflow.verifiers.contest_trial import trial
from eurekaflow.verifiers.extract import extract
from eurekaflow.verifiers.gpu_problem import Kernel
from eurekaflow.verifiers.judge import Judge, JudgeUnavailable, unparseable
from eurekaflow.verifiers.problem import EXACT, Construction, Outcome, Verdict
from eurekaflow.verifiers.process import CANARY
from eurekaflow.verifiers.sandbox import (
    Cause,
    Execution,
    Job,
    Limits,
    Sandbox,
    SandboxUnavailable,
)

STORE_EVERY = 16  # verdicts per transaction
WAIT_S = 1.0  # for which a verdict may wait for others
STDOUT_TAIL = 4000  # characters kept with the attempt
UNAVAILABLE = (SandboxUnavailable, JudgeUnavailable)
Judged = VerdictRow | tuple[int, str]  # an attempt given up: its id and the reason


@stage("verify")
def verify(run_id: str, step: int) -> int:
    """Judge every response without a verdict; returns how many verdicts this call stored."""
    s = session.of(run_id)
    pending = s.archive.unverified(s.run.id, step)
    if not pending:
        if not s.stage_reached(step, Stage.VERIFIED):  # all were judged while sampling went on
            s.archive.stage_done(s.hold, step, "verify", 0.0)
        return 0
    s.notify("stage", step=step, stage="verify")
    stored, lost = 0, dict[int, str]()
    with s.timed(step, "verify"), metered(s, step, "verify") as meter:
        try:
            for batch in batches(s, step, pending):
                rows = [x for x in batch if isinstance(x, VerdictRow)]
                lost.update(x for x in batch if not isinstance(x, VerdictRow))
                reach("verify.before_batch")
                s.archive.store_verdicts(s.hold, step, rows)
                reach("verify.after_batch")
                stored += len(rows)
                meter.elsewhere(container_cpu_s(s, rows))
                meter.tick()
                s.notify("progress", step=step, stage="verify", done=stored, total=len(pending))
        except UNAVAILABLE:
            s.drop("sandbox", "judge")  # a retry opens them anew
            raise
        give_up(s, step, lost, alone=bool(lost) and not scored(s, step))
    return stored


def container_cpu_s(s: Session, rows: list[VerdictRow]) -> float:
    """CPU seconds of candidates that ran below the container engine, not below this process."""
    if isinstance(s.problem, Kernel) or s.config.sandbox != "docker":
        return 0.0
    return sum(row.cpu_s + row.metrics.get("first_cpu_s", 0.0) for row in rows)


def scored(s: Session, step: int) -> bool:
    """Whether any attempt of the step has a verdict."""
    return any(a.outcome is not None for a in s.archive.attempts(s.run.id, step))


def batches(
    s: Session, step: int, pending: list[Pending], *, stopped: Callable[[], bool] = lambda: False
) -> Iterator[list[Judged]]:
    """Verdicts in the order they arrive, a few per transaction; none waits long for others.

    Only so many are under way that a slow database slows the judging, not fills the memory. Once
    `stopped`, what is under way is finished and nothing else begun.
    """
    given = {p.shown_id: s.archive.construction(p.shown_id) for p in pending}
    open_verifiers(s)  # here, by one thread
    waiting = iter(pending)
    with ThreadPoolExecutor(s.config.workers, thread_name_prefix="verify") as pool:
        running: set[Future[Judged]] = set()
        rows: list[Judged] = []
        broken: list[Future[Judged]] = []
        sent = time.monotonic()
        try:
            while True:
                if stopped():
                    waiting = iter(())
                for p in islice(waiting, s.config.workers + STORE_EVERY - len(running)):
                    running.add(pool.submit(judged, s, step, p, given[p.shown_id]))
                if not running:
                    break
                done, running = wait(running, WAIT_S, return_when=FIRST_COMPLETED)
                rows += [f.result() for f in done if f.exception() is None]
                if broken := [f for f in done if f.exception() is not None]:
                    rows += rescued(running)
                    break
                if len(rows) >= STORE_EVERY or (rows and time.monotonic() - sent >= WAIT_S):
                    yield rows
                    rows, sent = [], time.monotonic()
            if rows:
                yield rows
            for future in broken:
                future.result()  # raises, what was finished being stored
        finally:
            for future in running:
                future.cancel()


def rescued(running: set[Future[Judged]]) -> list[Judged]:
    """What the work under way still gives; what has not begun is left for later."""
    for future in running:
        future.cancel()
    done, _ = wait(running)
    return [f.result() for f in done if not f.cancelled() and f.exception() is None]


def judged(s: Session, step: int, pending: Pending, parent: Construction | None) -> Judged:
    """The attempt's verdict; or its id and the reason, when it breaks what judges it."""
    result = tried(lambda: judge_one(s, step, pending, parent), lambda: check_verifiers(s))
    return (pending.attempt_id, result.reason) if isinstance(result, Culprit) else result


def open_verifiers(s: Session) -> tuple[Sandbox | None, Judge]:
    """The sandbox, where the answers are programs, and the judge."""
    needs_none = s.problem.answer in ("json", "text") or isinstance(s.problem, Kernel)
    return None if needs_none else s.sandbox, s.judge


def check_verifiers(s: Session) -> None:
    """Raise SandboxUnavailable or JudgeUnavailable unless all do a job known to be good."""
    if isinstance(s.problem, Kernel):
        s.problem.check_device()
    sandbox, judge = open_verifiers(s)
    if sandbox is not None:
        execution = sandbox.run(CANARY, Limits())
        if execution.cause is not Cause.RETURNED:
            raise SandboxUnavailable(f"the sandbox's own test job went wrong: {execution}")
    judge.verdict_of_text(s.config.problem, "null")


def judge_one(s: Session, step: int, pending: Pending, parent: Construction | None) -> VerdictRow:
    """One response to its verdict row. Candidate failures are verdicts; only faults raise."""
    program = extract(pending.response, language=s.problem.answer, opening=pending.opening)
    if program is None:
        return row(s, pending, None, unparseable(), None)
    program = s.problem.complete(program)
    if isinstance(s.problem, Kernel):
        timed = s.problem.try_out(program)
        return row(s, pending, program, timed.verdict, timed.execution)
    if s.problem.answer in ("json", "text"):
        return row(s, pending, program, s.judge.verdict_of_text(s.config.problem, program), None)
    if isinstance(s.problem, Contest):
        tried = trial(
            s.problem,
            s.config.problem,
            program,
            sandbox=s.sandbox,
            judge=s.judge,
            workers=s.config.workers,
        )
        return row(s, pending, program, tried.verdict, tried.execution)
    job = s.problem.job(
        program,
        parent=parent,
        seed=candidate_seed(s.config.seed, step, pending),
        budget_s=s.config.budget_s,
    )
    execution = executed(s.sandbox, job, s.limits)
    verdict = s.judge.verdict(s.config.problem, execution)
    if verdict.outcome is Outcome.EXPLOIT:
        text = f"attempt {pending.attempt_id}: {verdict.message}"
        s.notify("note", step=step, metrics={"text": text})
    return row(s, pending, program, verdict, execution)


def executed(sandbox: Sandbox, job: Job, limits: Limits) -> Execution:
    """Run a program; where candidates are timed, a second time when the host was too busy."""
    if LAYER in sandbox.layers:
        return run_fairly(sandbox, job, limits)
    return sandbox.run(job, limits)


def candidate_seed(run_seed: int, step: int, pending: Pending) -> int:
    """The seed a candidate is given: a pure function of its place in the run."""
    key = [run_seed, step + 1, pending.group_index, pending.attempt_index]
    return int(np.random.SeedSequence(key).generate_state(1)[0] >> 1)


def metrics_of(verdict: Verdict) -> dict[str, float]:
    """What was measured; says whether the value is exact, as it is when it beats the record."""
    return {**verdict.metrics, "exact": 1.0} if verdict.mode == EXACT else verdict.metrics


def _earlier(execution: Execution | None) -> dict[str, float]:
    """The first run of a program that timed out on a loaded host, beside the second."""
    if execution is None or not execution.earlier:
        return {}
    (first,) = execution.earlier
    return {"first_run_s": first.wall_s, "first_cpu_s": first.cpu_s}


def row(
    s: Session,
    pending: Pending,
    program: str | None,
    verdict: Verdict,
    execution: Execution | None,
) -> VerdictRow:
    return VerdictRow(
        attempt_id=pending.attempt_id,
        outcome=str(verdict.outcome),
        value=verdict.value,
        reward=verdict.reward,
        message=verdict.message,
        program=program,
        construction=verdict.construction,
        same_by=s.problem.same_by,
        stdout=verdict.stdout[-STDOUT_TAIL:],
        metrics={**metrics_of(verdict), **_earlier(execution)},
        archivable=verdict.outcome is Outcome.VALID and s.problem.archivable(verdict.construction),
        queue_s=execution.queue_s if execution else 0.0,
        run_s=execution.wall_s if execution else 0.0,
        cpu_s=execution.cpu_s if execution else 0.0,
        worker=execution.worker if execution else "",
    )
