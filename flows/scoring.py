"""The command `verify`: what is good, asked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eurekaflow.flows.data_options import Data, DataOptions, with_data
from eurekaflow.flows.options import Flag, Json
from eurekaflow.models.errors import UsageError

if TYPE_CHECKING:
    from eurekaflow.models.settings import RunConfig
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
    final: Flag = False,
    budget: float = 10.0,
    seed: int = 0,
    cases: int | None = None,
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
        Recompute the score in rational arithmetic, where the problem has it. A contest's judge
        counts in whole numbers, so its score is exact without it too.
    strict
        Measure as claims are, where the published score can be tricked.
    official
        Measure as the field or the contest does: ahc039 on its 150 official seeds (those of
        ahc058 are not public), denoising by the published formula on split 0.
    final
        Measure as the final selection does: kernels three times, contests on held-out inputs.
    budget
        Seconds the program is told it has.
    seed
        Random seed of the program and of the start it is given.
    cases
        Contests: on how many of the local inputs, or of the official ones with --official, the
        program is tried; 1 to 150, all 150 by default.
    picture
        Draw the answer into this .svg file: the construction, or the net of ahc039 in the first
        case.
    json
        Print the verdict as JSON on stdout.
    """
    found, spec, mode = asked(problem, data, cases, exact=exact, strict=strict, official=official)
    if final:
        from eurekaflow.flows.finals import verify_final

        return verify_final(found, spec, _text(file), json=json)
    try:
        text = read(file)
    except UsageError as error:
        if json:
            print_verdict(found, refused(error.message), mode=mode, json=True)
        raise
    except ValueError as reason:
        verdict = refused(str(reason))
    else:
        verdict = judged(found, spec, file, text, mode=mode, budget=budget, seed=seed)
        if picture is not None:
            drawn(found, file, text, verdict, picture)
    print_verdict(found, verdict, mode=mode, json=json)
    return 0 if verdict.value is not None else 1


def _text(file: Path) -> str:
    """The text of a program. Raises UsageError, also for what is no text."""
    try:
        return read(file)
    except ValueError as reason:
        raise UsageError(str(reason), "name a program") from None


def asked(
    problem: str, data: DataOptions | None, cases: int | None, **modes: bool
) -> tuple[Problem, str, str]:
    """The problem on its data or cases, its spec for the judge, and the mode."""
    from eurekaflow.flows.contest_runs import on_cases

    spec = with_data(problem, data, official=modes["official"])
    found = on_cases(find(spec), cases, official=modes["official"])
    mode = mode_of(found, **modes)
    found.require()
    return found, canonical(spec), mode


def refused(reason: str) -> Verdict:
    """The verdict of a file that holds no answer."""
    from eurekaflow.verifiers.problem import Outcome, Verdict

    return Verdict(outcome=Outcome.INVALID, message=reason)


def print_verdict(problem: Problem, verdict: Verdict, *, mode: str, json: bool) -> None:
    """The verdict on stdout."""
    from eurekaflow.flows.verdict_report import print_report, scored

    report = scored(problem, verdict, mode=mode)
    if json:
        from eurekaflow.flows.rendering import print_json

        print_json(report)
    else:
        print_report(report)


def mode_of(problem: Problem, **asked: bool) -> str:
    """The mode asked for; unasked, by hand or else as in training.

    Raises UsageError for a mode that the problem does not have.
    """
    from eurekaflow.verifiers.problem import TRAINING, VERIFY

    unasked = VERIFY if VERIFY in problem.modes else TRAINING
    wanted = [name for name, given in asked.items() if given] or [unasked]
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
    """The text of a program or an answer.

    Raises UsageError when it cannot be opened and ValueError when its content is no text of ours.
    """
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise ValueError(f"{file} is larger than {LARGEST_FILE >> 20} MiB")
        return file.read_text(encoding="utf-8-sig")  # with or without a byte-order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no UTF-8 text: {error.reason} at {error.start}") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error}", "check the path") from None


def judged(
    problem: Problem,
    spec: str,
    file: Path,
    text: str,
    *,
    mode: str,
    budget: float,
    seed: int,
    config: RunConfig | None = None,
) -> Verdict:
    """The verdict of a file: data is judged as it is, a program after its run in the sandbox.

    The sandbox is the one that `config` names, that of a run, say, or the configured one.
    """
    from eurekaflow.flows.contest_runs import tried
    from eurekaflow.flows.judging import configured, judging
    from eurekaflow.verifiers.contest import Contest
    from eurekaflow.verifiers.gpu_problem import Kernel
    from eurekaflow.verifiers.sandbox import Cause, Execution

    if isinstance(problem, Kernel):
        return problem.try_out(text, mode=mode).verdict
    if isinstance(problem, Contest):
        return tried(problem, spec, file, text, mode=mode, config=config or configured(spec))
    with judging(problem) as judge:
        if problem.answer in ("cpp", "text", "json"):
            return judge.verdict_of_text(spec, text, mode=mode)
        if file.suffix == ".json":
            execution = Execution(cause=Cause.RETURNED, result=text.encode())
        else:
            execution = executed(
                problem, text, config or configured(spec), budget=budget, seed=seed
            )
        return judge.verdict(spec, execution, mode=mode)


def executed(
    problem: Problem, program: str, config: RunConfig, *, budget: float, seed: int
) -> Any:
    """The execution of a program in the configured sandbox, from one of the problem's seeds."""
    import numpy as np

    from eurekaflow.flows.judging import sandboxed

    start = next(iter(problem.seeds(np.random.default_rng(seed), 1)), None)
    job = problem.job(
        program, parent=start.construction if start else None, seed=seed, budget_s=budget
    )
    with sandboxed(problem, config) as sandbox:
        return sandbox.run(job, problem.limits(budget_s=budget))


def drawn(problem: Problem, file: Path, text: str, verdict: Verdict, picture: Path) -> None:
    """Write the picture of an answer. Raises UsageError where there is nothing to draw."""
    from eurekaflow.flows.contest_runs import net
    from eurekaflow.flows.report_text import standalone
    from eurekaflow.verifiers.ahc039 import Ahc039

    svg = ""
    if isinstance(problem, Ahc039):
        svg = net(problem, file, text)
    elif verdict.construction is not None:
        svg = problem.picture({file.name: verdict.construction})
    if not svg:
        raise UsageError(f"there is nothing to draw of {file}", "leave --picture out")
    try:
        picture.write_text(standalone(svg), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{picture} cannot be written: {error}", "choose another file") from None
