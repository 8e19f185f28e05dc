"""What `eureka problem check` finds out about a contest, where a program prints the answers."""

from __future__ import annotations

import json
import time

from eurekaflow.verifiers.contest import CPU_S, Contest
from eurekaflow.verifiers.contest_trial import build
from eurekaflow.verifiers.problem import Outcome
from eurekaflow.verifiers.safety import Bench, Finding
from eurekaflow.verifiers.sandbox import Cause, Execution, Job

ENDLESS = "int main() { volatile int on = 1; while (on) {} }"


def answer_of(bench: Bench, problem: Contest, program: str) -> bytes | None:
    """What a program prints on the first case, as the judge takes it; None if it is not valid."""
    case = problem.cases()[0]
    execution = _run(bench, problem, program, problem.generate_input(case))
    output = (execution.result or b"").decode("utf-8", errors="replace")
    data = json.dumps({"seed": case, "output": output}).encode()
    return data if bench.judged(data).outcome is Outcome.VALID else None


def limits_hold(bench: Bench, problem: Contest) -> Finding:
    """A compiled program that never ends is ended."""
    started = time.monotonic()
    execution = _run(bench, problem, ENDLESS, problem.generate_input(problem.cases()[0]))
    took = time.monotonic() - started
    if execution.cause is Cause.TIMEOUT:
        message = f"an endless program ended after {took:.1f} s, its compilation included"
        return Finding(name="time limits", status="pass", message=message)
    return Finding(
        name="time limits",
        status="fail",
        message=f"an endless program ended as {execution.cause}: {execution.message}",
        fix="eureka doctor says whether the sandbox and the compiler work",
    )


def _run(bench: Bench, problem: Contest, program: str, case: str) -> Execution:
    built = build(problem.standalone(program), bench.sandbox, language="cpp")
    if built.failure is not None:
        return built.failure
    job = Job(executable=built.binary, stdin=case.encode())
    return bench.sandbox.run(job, problem.limits(budget_s=CPU_S))
