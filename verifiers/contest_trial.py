"""One contest program's trial: compiled once, run on every case, each output judged by itself.

The cases of a program fan out over the sandbox's slots; a slot runs one program at a time, so
there are never more than `workers`. CPU time decides, as at the contest; elapsed time only keeps
sleepers out. A case over its time while the machine made it wait is run once more, and both runs
are recorded. The first failing case ends the trial: partial credit never.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from threading import Event

from eurekaflow.verifiers import cpp
from eurekaflow.verifiers.allotment import run_fairly
from eurekaflow.verifiers.contest import CPU_S, MEMORY_BYTES, WALL_S, Contest
from eurekaflow.verifiers.judge import Judge, stdout_tail
from eurekaflow.verifiers.problem import Outcome, Verdict
from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Sandbox, SandboxUnavailable

OWN_CPU_S = 0.02  # what confining a program costs before its own start
WAITED_S = 0.2  # neither computing nor done: asleep, or kept from a core
NEEDED_LAYER = "private-tmp"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What became of a program: its verdict, all its runs as one, what it printed first."""

    verdict: Verdict
    execution: Execution
    output: str = ""  # on the first case


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case: its verdict and its last run, which knows of an earlier one that did not count."""

    seed: int
    verdict: Verdict
    execution: Execution

    @property
    def first(self) -> Execution | None:
        """The run that did not count, when the machine made it wait."""
        return self.execution.earlier[0] if self.execution.earlier else None

    @property
    def valid(self) -> bool:
        return self.verdict.outcome is Outcome.VALID


def trial(
    problem: Contest,
    spec: str,
    program: str,
    *,
    sandbox: Sandbox,
    judge: Judge,
    workers: int,
    language: str = "cpp",
) -> Trial:
    """Try `program` on `problem.cases()`; `spec` is the problem's name for the judge.

    `workers` bounds the cases under way, as the sandbox's own slots do. Raises
    SandboxUnavailable and JudgeUnavailable.
    """
    if NEEDED_LAYER not in sandbox.layers:
        raise SandboxUnavailable(
            f"contest programs need a private temporary folder, which the {sandbox.name} sandbox "
            "has here only with user namespaces: sysctl user.max_user_namespaces=15000"
        )
    built = build(problem.standalone(program), sandbox, language=language)
    if built.failure is not None:
        verdict = judge.verdict(spec, built.failure)
        return Trial(verdict=verdict, execution=built.failure)
    stop = Event()
    run = partial(_case, problem, spec, built.binary, sandbox, judge, stop)
    seeds = list(problem.cases())
    done = [run(seeds[0])]  # most failures show in the first
    with ThreadPoolExecutor(workers, thread_name_prefix="case") as pool:
        done += [case for case in pool.map(run, seeds[1:]) if case is not None]
    return _summed(problem, [case for case in done if case is not None])


def build(source: str, sandbox: Sandbox, *, language: str) -> cpp.Compiled:
    """The executable of a source: compiled C++, or a script for our own interpreter."""
    if reason := cpp.refused(source) if language == "cpp" else "":
        return cpp.Compiled(failure=Execution(cause=Cause.RAISED, message=reason))
    if language == "python":
        interpreter = os.path.realpath(sys.executable)
        return cpp.Compiled(binary=f"#!{interpreter} -SB\n{source}".encode())
    return cpp.read(run_fairly(sandbox, cpp.job(source), cpp.LIMITS, delayed=_waited))


def _case(
    problem: Contest,
    spec: str,
    binary: bytes,
    sandbox: Sandbox,
    judge: Judge,
    stop: Event,
    seed: int,
) -> Case | None:
    """One case to its verdict; None once another case has failed."""
    if stop.is_set():
        return None
    job = Job(executable=binary, stdin=problem.generate_input(seed).encode())
    limits = problem.limits(budget_s=CPU_S)
    execution = run_fairly(sandbox, job, limits, settle=_within_limits, delayed=_waited)
    case = Case(seed=seed, verdict=_verdict(judge, spec, seed, execution), execution=execution)
    if not case.valid:
        stop.set()
    return case


def _within_limits(execution: Execution) -> Execution:
    """The contest's own limits, which lie below those at which a program is killed."""
    cpu_s, wall_s, rss = execution.cpu_s - OWN_CPU_S, execution.wall_s, execution.max_rss_bytes
    if execution.cause is Cause.KILLED and b"std::bad_alloc" in execution.stdout:
        return replace(execution, cause=Cause.MEMORY, message="std::bad_alloc")
    if execution.cause in (Cause.RETURNED, Cause.RAISED):
        if rss > MEMORY_BYTES:
            message = f"{rss >> 20} MiB of memory, allowed are {MEMORY_BYTES >> 20}"
            return replace(execution, cause=Cause.MEMORY, message=message)
        if cpu_s > CPU_S or wall_s > WALL_S:
            message = f"{max(cpu_s, 0):.2f} s of CPU and {wall_s:.2f} s elapsed, allowed are "
            message += f"{CPU_S:g} and {WALL_S:g}"
            return replace(execution, cause=Cause.TIMEOUT, message=message)
    return execution


def _waited(execution: Execution) -> bool:
    """Whether a run may have been slow through no fault of its own."""
    busy = os.getloadavg()[0] > (os.cpu_count() or 1)
    return busy or execution.wall_s - execution.cpu_s > WAITED_S


def _verdict(judge: Judge, spec: str, seed: int, execution: Execution) -> Verdict:
    if execution.cause is not Cause.RETURNED or execution.result is None:
        return judge.verdict(spec, execution)
    output = execution.result.decode("utf-8", errors="replace")
    answer = json.dumps({"seed": seed, "output": output}).encode()
    return judge.verdict(spec, replace(execution, result=answer))


def _summed(problem: Contest, cases: Sequence[Case]) -> Trial:
    """The trial of all cases: the mean when each is valid, else the first failure."""
    execution = replace(
        cases[0].execution,
        result=None,
        earlier=(),
        queue_s=sum(case.execution.queue_s for case in cases),
        wall_s=sum(case.execution.wall_s for case in cases),
        cpu_s=sum(case.execution.cpu_s for case in cases),
        max_rss_bytes=max(case.execution.max_rss_bytes for case in cases),
    )
    output = (cases[0].execution.result or b"").decode("utf-8", errors="replace")
    failed = next((case for case in cases if not case.valid), None)
    if failed is not None:
        verdict = replace(
            failed.verdict,
            message=f"case {failed.seed}: {failed.verdict.message}{_earlier(failed)}",
            metrics=_metrics(cases),
        )
        return Trial(verdict=verdict, execution=execution, output=output)
    scores = [case.verdict.value or 0.0 for case in cases]
    value = sum(scores) / len(scores)
    verdict = Verdict(
        outcome=Outcome.VALID,
        value=value,
        reward=problem.reward(value),
        construction=cases[0].verdict.construction,
        stdout=stdout_tail(cases[0].execution),
        metrics={"sum": sum(scores), "lowest": min(scores), **_metrics(cases)},
    )
    return Trial(verdict=verdict, execution=execution, output=output)


def _earlier(case: Case) -> str:
    return f" (run again after: {case.first.message})" if case.first is not None else ""


def _metrics(cases: Sequence[Case]) -> dict[str, float]:
    """How many cases, the slowest run, and what was run again because the machine was busy."""
    again = [case.first for case in cases if case.first is not None]
    slowest = max(cases, key=lambda case: case.execution.cpu_s).execution
    found = {
        "cases": float(len(cases)),
        "slowest_cpu_s": slowest.cpu_s,
        "slowest_wall_s": max(case.execution.wall_s for case in cases),
        "host_load": os.getloadavg()[0],
    }
    if again:
        found["rerun_cases"] = float(len(again))
        found["rerun_first_cpu_s"] = max(execution.cpu_s for execution in again)
        found["rerun_first_wall_s"] = max(execution.wall_s for execution in again)
    return found
