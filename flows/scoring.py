"""The command `verify`: what is good, asked by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eurekaflow.flows.data_options import Data, with_data
from eurekaflow.flows.options import Flag, Json
from eurekaflow.flows.trust import told
from eurekaflow.models.errors import UsageError

if TYPE_CHECKING:
    from eurekaflow.verifiers.contest import Contest
    from eurekaflow.verifiers.contest_trial import Trial
    from eurekaflow.verifiers.problem import Problem, Verdict

LARGEST_FILE = 64 << 20  # bytes read of a program or a construction


def verify(
    problem: str,
    file: Path,
    /,
    *,
    exact: Flag = False,
    strict: Flag = False,
    official: Flag = False,
    budget: float = 10.0,
    seed: int = 0,
    cases: int = 150,
    picture: Path | None = None,
    data: Data = None,
    json: Json = False,
) -> int:
    """Score a program or a construction by hand.

    Exits with 0 when the answer is valid, else with 1.

    Parameters
    ----------
    problem
        Name of a problem (`eureka problems`), or the path of a problem file or folder.
    file
        A program, run in the sandbox; or a .json file with the answer itself: a list of numbers
        for erdos, ac1 and ac2, rows of [x, y, r] for packings.
    exact
        Recompute the score in rational arithmetic, where the problem has it.
    strict
        Measure as claims are, where the published score can be tricked.
    official
        Measure as the field or the contest does.
    budget
        Seconds the program is told it has.
    seed
        Random seed of the program and of the start it is given.
    cases
        Contests: how many of the 150 local inputs the program is tried on.
    picture
        SVG file to draw the answer in: a construction, or the first input with ahc039's polygon.
    json
        Print the verdict as JSON on stdout.
    """
    if cases < 1:
        raise UsageError(f"--cases is {cases}", "give a number from 1 to 150")
    problem = with_data(problem, data)
    found = find(problem).with_cases(cases)
    found.require()
    text = read(file)
    mode = mode_of(found, exact=exact, strict=strict, official=official)
    verdict = judged(found, canonical(problem), file, text, mode=mode, budget=budget, seed=seed)
    if picture is not None:
        from eurekaflow.flows.picturing import write_picture

        write_picture(picture, found, canonical(problem), file, text, verdict)
    report = scored(found, verdict, mode=mode)
    if json:
        from eurekaflow.flows.rendering import print_json

        print_json(report)
    else:
        print_report(report)
    return 0 if report["valid"] else 1


def mode_of(problem: Problem, **asked: bool) -> str:
    """The mode asked for, training by default. Raises UsageError for one it does not have."""
    from eurekaflow.verifiers.problem import TRAINING

    wanted = [name for name, given in asked.items() if given] or [TRAINING]
    if len(wanted) > 1:
        flags = " and ".join(f"--{name}" for name in wanted)
        raise UsageError(f"{flags} exclude each other", "give one of them")
    if wanted[0] not in problem.modes:
        known = ", ".join(problem.modes)
        raise UsageError(
            f"{problem.name} cannot be measured in {wanted[0]} mode; it has: {known}",
            f"eureka verify {problem.name} FILE",
        )
    return wanted[0]


def find(spec: str) -> Problem:
    """The problem; a problem file that cannot be loaded is the user's to correct (UsageError)."""
    from eurekaflow.verifiers.lookup import UnknownProblem, load
    from eurekaflow.verifiers.problem import ProblemUnusable

    try:
        return load(spec)
    except UnknownProblem as error:
        raise UsageError(str(error), "eureka problems") from None
    except ProblemUnusable as error:
        raise UsageError(str(error), f"correct {spec}") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"problem file {spec} fails: {reason}", f"correct {spec}") from error


def canonical(spec: str) -> str:
    """The name under which a run knows a problem; a file or folder becomes its absolute path."""
    from eurekaflow.verifiers.lookup import is_path

    found = find(spec)
    if "?" in spec:
        return f"{found.name}?{spec.partition('?')[2]}"
    return str(Path(spec).expanduser().resolve()) if is_path(spec) else found.name


def read(file: Path) -> str:
    """The text of a program or an answer. Raises UsageError."""
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise UsageError(
                f"{file} is larger than {LARGEST_FILE >> 20} MiB", "give a smaller file"
            )
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}", "check the path") from None


def judged(
    problem: Problem, spec: str, file: Path, text: str, *, mode: str, budget: float, seed: int
) -> Verdict:
    """The verdict of a file: data is judged as it is, a program after its run in the sandbox."""
    from eurekaflow.flows.judging import judging
    from eurekaflow.verifiers.contest import Contest
    from eurekaflow.verifiers.gpu_problem import Kernel
    from eurekaflow.verifiers.sandbox import Cause, Execution

    if isinstance(problem, Kernel):
        return problem.try_out(text, mode=mode).verdict
    if isinstance(problem, Contest):
        return tried(problem, spec, file, text).verdict
    with judging(problem) as judge:
        if problem.answer in ("cpp", "text", "json"):
            return judge.verdict_of_text(spec, text, mode=mode)
        if file.suffix == ".json":
            execution = Execution(cause=Cause.RETURNED, result=text.encode())
        else:
            execution = executed(problem, text, budget=budget, seed=seed)
        return judge.verdict(spec, execution, mode=mode)


def tried(problem: Contest, spec: str, file: Path, program: str) -> Trial:
    """The trial of a contest program (C++20, or Python by its name) on the problem's cases."""
    from eurekaflow.flows.hardware import usable_cpus
    from eurekaflow.verifiers.contest_trial import trial
    from eurekaflow.verifiers.judge import Judge
    from eurekaflow.verifiers.process import ProcessSandbox

    language = "python" if file.suffix == ".py" else "cpp"
    workers = usable_cpus()
    with Judge(workers) as judge, ProcessSandbox(workers) as sandbox:
        return trial(problem, spec, program, sandbox=sandbox, judge=judge, workers=workers,
                     language=language)  # fmt: skip


def executed(problem: Problem, program: str, *, budget: float, seed: int) -> Any:
    """The execution of a program in the sandbox, started from one of the problem's seeds."""
    import numpy as np

    from eurekaflow.verifiers.process import ProcessSandbox

    start = next(iter(problem.seeds(np.random.default_rng(seed), 1)), None)
    job = problem.job(
        program, parent=start.construction if start else None, seed=seed, budget_s=budget
    )
    with ProcessSandbox(1) as sandbox:
        return sandbox.run(job, problem.limits(budget_s=budget))


def printed(problem: Problem, exact: str, *, digits: int = 12) -> str:
    """An exact score as a decimal, rounded to its worse side, so the decimal is proven too."""
    from fractions import Fraction
    from math import ceil, floor

    scaled = Fraction(exact) * 10**digits
    whole = ceil(scaled) if problem.direction == "min" else floor(scaled)
    sign, figures = "-" if whole < 0 else "", str(abs(whole)).zfill(digits + 1)
    towards = "up" if problem.direction == "min" else "down"
    return f"{sign}{figures[:-digits]}.{figures[-digits:]} (rounded {towards})"


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How an answer stands against a published record; `ahead` > 0 is better than it."""

    holder: str
    score: float
    kind: str
    role: str
    mode: str
    source: str
    ahead: float


def scored(problem: Problem, verdict: Verdict, *, mode: str) -> dict[str, Any]:
    """A verdict as a report: what JSON output holds."""
    valid = verdict.value is not None
    cases = len(problem.cases())
    return {
        "problem": problem.name,
        "valid": valid,
        "outcome": str(verdict.outcome),
        "metric": f"sum over {cases} local cases" if cases else problem.metric,
        "score": verdict.metrics.get("sum", problem.score(verdict.value))
        if verdict.value is not None
        else None,
        "value": verdict.value,
        "reward": verdict.reward,
        "exact": verdict.exact or None,
        "proven": printed(problem, verdict.exact) if verdict.exact else None,
        "mode": "local cases" if cases else verdict.mode or mode,
        "trust": problem.trust,
        "message": verdict.message,
        "metrics": dict(verdict.metrics),
        "records": [vars(d) for d in distances(problem, verdict.value)],
        "stdout": verdict.stdout,
    }


def distances(problem: Problem, value: float | None) -> list[Distance]:
    """The distance of a value to each of the problem's records, in units of the score.

    A contest's record is a sum over 150 cases: nothing is said of fewer.
    """
    if value is None or 0 < len(problem.cases()) < 150:
        return []
    sign = -1 if problem.direction == "min" else 1
    return [
        Distance(
            holder=record.holder,
            score=record.score,
            kind=record.kind,
            role=record.role,
            mode=record.mode,
            source=record.source,
            ahead=sign * (problem.score(value) - record.score),
        )
        for record in problem.records
    ]


def print_report(report: dict[str, Any]) -> None:
    """A report for people."""
    from eurekaflow.flows.rendering import print_pairs, print_table, printable

    score, value = report["score"], report["value"]
    gates = "all passed" if report["valid"] else report["message"] or report["outcome"]
    pairs = [
        ("verdict", report["outcome"]),
        (report["metric"], None if score is None else f"{score:.12g}"),
        ("value", None if value is None or value == score else f"{value:.12g}"),
        ("gates", gates),
        ("mode", report["mode"]),
        ("trust", told(report["trust"])),
        ("measured on", report["message"] if report["valid"] else None),
        ("proven", report["proven"]),
        *((name, measured) for name, measured in report["metrics"].items()),
    ]
    print_pairs(pairs)
    if report["stdout"] and not report["valid"]:
        print(f"output of the program:\n{printable(report['stdout'])}")
    rows = [
        (r["holder"], r["role"] or r["kind"], f"{r['score']:.10g}", standing(r["ahead"]))
        for r in report["records"]
    ]
    if rows:
        print_table(("record", "of", report["metric"], "this answer"), rows)


def standing(ahead: float) -> str:
    """An answer's distance to a record in words."""
    if ahead == 0:
        return "equal"
    return f"{abs(ahead):.3g} {'better' if ahead > 0 else 'worse'}"
