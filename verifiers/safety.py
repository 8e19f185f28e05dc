"""Whether a problem is safe to run: seeds, refusals and limits, each with its remedy.

Part of what `eureka problem check` finds out; see fitness.py for the rest.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.problem import Outcome, Problem, Seed, Verdict
from eurekaflow.verifiers.sandbox import Cause, Execution, Sandbox

NO_ANSWER = (b"null", b"true", b"[]", b"{}", b'""', b'["1"]', b"[[]]", b"[null]", b'{"x": 1}')
HOSTILE = {
    "NaN": b"NaN",
    "a list with NaN": b"[NaN, 1.0]",
    "infinity": b"[Infinity]",
    "an overflowing number": b"[1e999]",
    "an integer of 5000 digits": b"[" + b"9" * 5000 + b"]",
    "deep nesting": b"[" * 5000 + b"]" * 5000,
    "bytes that are no text": b"\xff\xfe\x00",
    "a pickle": b"\x80\x04K\x01.",
    "an unfinished document": b"[1.0, 2.0",
}
REMEDY = "raise InvalidAnswer with the reason; eurekaflow.verifiers.answers reads strictly"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    status: Literal["pass", "warn", "fail"]
    message: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What the examination works with."""

    spec: str  # name or path of the problem
    problem: Problem
    judge: Judge
    sandbox: Sandbox
    budget_s: float  # told to the seed programs

    def judged(self, data: bytes) -> Verdict:
        """The verdict of an answer, as JSON bytes or as the text that a data problem takes."""
        if self.problem.answer in ("json", "text"):
            return self.judge.verdict_of_text(self.spec, data.decode(errors="replace"))
        return self.judge.verdict(self.spec, Execution(cause=Cause.RETURNED, result=data))

    def executed(self, seed: Seed, number: int) -> Execution:
        """A seed's program, run with a random seed."""
        job = self.problem.job(
            seed.program, parent=seed.construction, seed=number, budget_s=self.budget_s
        )
        return self.sandbox.run(job, self.problem.limits(budget_s=self.budget_s))


def statement(problem: Problem) -> Finding:
    """Whether the model is told something."""
    words = len(problem.statement().split())
    if words < 20:
        return Finding(
            name="statement",
            status="warn",
            message=f"{words} words",
            fix="say what is wanted, every rule that is checked, and what the function returns",
        )
    return Finding(name="statement", status="pass", message=f"{words} words")


def starting_points(problem: Problem) -> tuple[list[Seed], Finding]:
    """The seeds of both presets; their values must be finite and follow from the generator."""
    drawn = [
        list(problem.seeds(np.random.default_rng(1), 4, brief=brief))
        for brief in (False, True, False, True)
    ]
    seeds = [*drawn[0], *drawn[1]]
    if not seeds:
        return [], Finding(name="seeds", status="fail", message="none", fix="return `count` seeds")
    wrong = [seed.value for seed in seeds if not math.isfinite(seed.value)]
    if wrong:
        return [], Finding(
            name="seeds",
            status="fail",
            message=f"a seed has the value {wrong[0]}",
            fix="give every seed a finite value, worse than any valid attempt if it is empty",
        )
    if _drawn(drawn[0]) != _drawn(drawn[2]) or _drawn(drawn[1]) != _drawn(drawn[3]):
        return seeds, Finding(
            name="seeds",
            status="fail",
            message="equal generators gave different seeds",
            fix="draw from `rng` alone: no clock, no global generator",
        )
    values = sorted({seed.value for seed in seeds})
    span = f"{values[0]:.6g} to {values[-1]:.6g}"
    return seeds, Finding(name="seeds", status="pass", message=f"values {span}")


def _drawn(seeds: list[Seed]) -> list[tuple[Any, ...]]:
    return [
        (s.value, s.program, None if s.construction is None else s.construction.tolist())
        for s in seeds
    ]


def refuses_no_answer(bench: Bench) -> Finding:
    """Null, an empty list and their like are no answers."""
    return _refused(bench, "rejects no answer", {data.decode(): data for data in NO_ANSWER})


def refuses_hostile_bytes(bench: Bench) -> Finding:
    """NaN, overflow, deep nesting and bytes that are no JSON."""
    return _refused(bench, "rejects hostile output", HOSTILE)


def _refused(bench: Bench, name: str, answers: dict[str, bytes]) -> Finding:
    verdicts = {what: bench.judged(data) for what, data in answers.items()}
    accepted = [what for what, verdict in verdicts.items() if verdict.outcome is Outcome.VALID]
    if accepted:
        message = f"accepted: {', '.join(accepted)}"
        return Finding(name=name, status="fail", message=message, fix=REMEDY)
    tripped = {w: v.message for w, v in verdicts.items() if v.message.startswith("the verifier")}
    if tripped:
        what, said = next(iter(tripped.items()))
        message = f"refused, but by an unforeseen exception: {what}: {said}"
        return Finding(name=name, status="warn", message=message, fix=REMEDY)
    return Finding(name=name, status="pass", message=f"{len(answers)} of {len(answers)}")


def limits_hold(bench: Bench) -> Finding:
    """A program that never ends is ended, and candidates have the time they are told of."""
    name, problem = "time limits", bench.problem
    if problem.answer != "python":
        return Finding(name=name, status="pass", message="answers are data: nothing is run")
    limits = problem.limits(budget_s=1.0)
    if problem.told_budget and not 1.0 <= limits.wall_s <= 60.0:
        return Finding(
            name=name,
            status="warn",
            message=f"candidates told 1 s are ended after {limits.wall_s:g} s",
            fix="let `limits` allow a little more than `budget_s`",
        )
    endless = "while True:\n    pass\n"
    if problem.entry_point:
        endless = f"def {problem.entry_point}(*a, **k):\n    while True:\n        pass\n"
    job = problem.job(endless, parent=None, seed=0, budget_s=1.0)
    started = time.monotonic()
    execution = bench.sandbox.run(job, replace(limits, wall_s=min(limits.wall_s, 5.0)))
    took = time.monotonic() - started
    ended = execution.cause is Cause.RETURNED and problem.trust == "foreign"
    if ended:  # by a limit of the evaluator's own
        message = f"the evaluator ended an endless program after {took:.1f} s"
        return Finding(name=name, status="pass", message=message)
    if execution.cause is not Cause.TIMEOUT:
        return Finding(
            name=name,
            status="fail",
            message=f"an endless program ended as {execution.cause}: {execution.message}",
            fix="let `job` run the program's own entry point",
        )
    return Finding(
        name=name, status="pass", message=f"an endless program ended after {took:.1f} s"
    )
