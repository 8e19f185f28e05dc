"""The final selection: which attempts are measured again, and a program measured so by hand.

Kernels are timed three times again in both modes and the smallest mean wins. What was fastest on
one GPU model need not be on another, so there 20 random correct kernels of every tenth step are
timed as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eurekaflow.models.errors import UsageError

if TYPE_CHECKING:
    from eurekaflow.models.archive import Archive
    from eurekaflow.models.rows import AttemptRow, RunRow
    from eurekaflow.models.settings import RunConfig
    from eurekaflow.verifiers.problem import Problem, Remeasurement

EVERY, DRAWN = 10, 20  # steps, and kernels drawn of each such step


def finalists(archive: Archive, run: RunRow, problem: Problem) -> list[AttemptRow]:
    """The attempts that the final selection measures: the best, and on another GPU model more."""
    best = archive.best_attempts(run.id, problem.finalists)
    return best + drawn(archive, run, besides=best) if on_another_gpu(run, problem) else best


def on_another_gpu(run: RunRow, problem: Problem) -> bool:
    """Whether the run's kernels were timed on another model than this machine's."""
    from eurekaflow.verifiers.gpu_problem import Kernel, gpu_model

    before = run.hardware.get("gpu", "")
    return isinstance(problem, Kernel) and bool(before) and before != gpu_model()


def drawn(archive: Archive, run: RunRow, *, besides: list[AttemptRow]) -> list[AttemptRow]:
    """Up to 20 random correct programs of every tenth step, none of them twice.

    The draw depends on the run's seed and the step alone.
    """
    import numpy as np

    seen = {archive.program(attempt.id) for attempt in besides}
    found: list[AttemptRow] = []
    for step in range(EVERY - 1, archive.progress(run.id).step, EVERY):
        correct = [a for a in archive.attempts(run.id, step) if a.outcome == "valid"]
        order = np.random.default_rng([run.seed, step]).permutation(len(correct))
        taken = 0
        for index in order:
            program = archive.program(correct[index].id)
            if taken < DRAWN and program not in seen:
                seen.add(program)
                found.append(correct[index])
                taken += 1
    return found


def remeasured(problem: Problem, program: str, config: RunConfig) -> list[Remeasurement]:
    """What the final selection measures of a program, in the sandbox that `config` names.

    Raises InvalidAnswer.
    """
    from eurekaflow.flows.judging import judging, sandboxed

    with judging(problem) as judge, sandboxed(problem, config) as sandbox:
        spec = config.problem
        return list(problem.remeasure(program, spec=spec, sandbox=sandbox, judge=judge))


def verify_final(problem: Problem, spec: str, program: str, *, json: bool) -> int:
    """Measure a program as a finalist is and print it; 1 when it fails there."""
    from eurekaflow.flows import rendering
    from eurekaflow.flows.judging import configured
    from eurekaflow.verifiers.problem import InvalidAnswer

    try:
        found = remeasured(problem, program, configured(spec))
    except InvalidAnswer as reason:
        rows: list[dict[str, Any]] = [{"mode": "final", "score": None, "message": str(reason)}]
    else:
        rows = [row(problem, one) for one in found]
    if not rows:
        raise UsageError(
            f"{problem.name} has nothing held out to measure a file on",
            f"eureka verify {problem.name} FILE --exact",
        )
    if json:
        rendering.print_json(rows)
    else:
        for one in rows:
            rendering.print_pairs(one.items())
    return 0 if rows[0]["score"] is not None else 1


def row(problem: Problem, measured: Remeasurement) -> dict[str, Any]:
    """A measurement as a report."""
    return {
        "mode": measured.mode,
        "score": problem.score(measured.value),
        "value": measured.value,
        "message": measured.message,
    }
