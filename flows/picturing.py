"""`eureka verify … --picture FILE`: what an answer looks like, by the problem's own drawing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eurekaflow.models.errors import UsageError

if TYPE_CHECKING:
    from eurekaflow.verifiers.contest import Contest
    from eurekaflow.verifiers.problem import Problem, Verdict


def write_picture(
    target: Path, problem: Problem, spec: str, file: Path, program: str, verdict: Verdict
) -> None:
    """Draw an answer as an SVG file; a contest program is run once more, on its first case.

    Raises UsageError where there is nothing to draw.
    """
    from eurekaflow.flows.report_text import standalone
    from eurekaflow.verifiers.contest import Contest

    drawn = ""
    if isinstance(problem, Contest):
        drawn = first_case(problem, spec, file, program)
    elif verdict.construction is not None:
        drawn = problem.picture({file.name: verdict.construction})
    if not drawn:
        raise UsageError(f"{problem.name} has no picture of this answer", "leave out --picture")
    try:
        target.write_text(standalone(drawn), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error}", "give another FILE") from None


def first_case(problem: Contest, spec: str, file: Path, program: str) -> str:
    """The first local input with the program's output on it."""
    from eurekaflow.flows.scoring import tried

    one = problem.with_cases(1)
    [seed] = one.cases()
    return one.picture_of_case(one.generate_input(seed), tried(one, spec, file, program).output)
