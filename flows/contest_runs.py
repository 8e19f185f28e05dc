"""Contest programs by hand: on which cases, their verdict, and the picture of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from eurekaflow.models.errors import UsageError

if TYPE_CHECKING:
    from eurekaflow.models.settings import RunConfig
    from eurekaflow.verifiers.ahc039 import Ahc039
    from eurekaflow.verifiers.contest import Contest
    from eurekaflow.verifiers.problem import Problem, Verdict

LOCAL = "local cases"  # what the training mode is called where no run is meant


def on_cases(problem: Problem, cases: int | None, *, official: bool) -> Problem:
    """The problem on so many of its local or official cases. Raises UsageError."""
    from eurekaflow.verifiers.contest import CASES, Contest

    if not isinstance(problem, Contest):
        if cases is not None:
            raise UsageError(f"--cases is for contests, {problem.name} is none", "leave it out")
        return problem
    if cases is not None and not 1 <= cases <= CASES:
        raise UsageError(f"--cases is {cases}", f"give a number from 1 to {CASES}")
    if not official:
        return problem.with_cases(cases or CASES)
    if not problem.official_seeds:
        raise UsageError(
            f"the official seeds of {problem.name} are not public: only local cases can be run",
            f"eureka verify {problem.name} FILE, without --official",
        )
    return problem.held_out_cases(cases or CASES)


def tried(
    problem: Contest, spec: str, file: Path, program: str, *, mode: str, config: RunConfig
) -> Verdict:
    """The verdict of a contest program (C++20, or Python by its name) on the problem's cases."""
    from eurekaflow.flows.hardware import usable_cpus
    from eurekaflow.flows.judging import sandboxed
    from eurekaflow.verifiers.contest_trial import trial
    from eurekaflow.verifiers.judge import Judge
    from eurekaflow.verifiers.problem import EXACT, TRAINING

    workers = usable_cpus()
    with Judge(workers) as judge, sandboxed(problem, config, workers) as sandbox:
        verdict = trial(problem, spec, program, sandbox=sandbox, judge=judge, workers=workers,
                        language=language_of(file)).verdict  # fmt: skip
    if verdict.value is None:
        return replace(verdict, mode=LOCAL if mode == TRAINING else mode)
    said = problem.described_cases
    if mode == EXACT:
        said += "; the judge counts in whole numbers, so the score is exact in every mode"
    return replace(verdict, mode=LOCAL if mode == TRAINING else mode, message=said)


def net(problem: Ahc039, file: Path, program: str) -> str:
    """The first case with the program's polygon, as SVG; "" when the program gives no output."""
    from eurekaflow.flows.judging import configured, sandboxed
    from eurekaflow.verifiers.ahc039 import picture
    from eurekaflow.verifiers.contest_trial import build
    from eurekaflow.verifiers.sandbox import Job

    text = problem.generate_input(problem.cases()[0])
    with sandboxed(problem, configured(problem.name)) as sandbox:
        built = build(problem.standalone(program), sandbox, language=language_of(file))
        if built.failure is not None:
            return ""
        job = Job(executable=built.binary, stdin=text.encode())
        output = sandbox.run(job, problem.limits(budget_s=0.0)).result
    return "" if output is None else picture(text, output.decode("utf-8", errors="replace"))


def language_of(file: Path) -> str:
    """What a file's name says a contest program is written in."""
    return "python" if file.suffix == ".py" else "cpp"
