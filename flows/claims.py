"""Claims: re-measuring a run's best attempts, and writing a result that anyone can check."""

from __future__ import annotations

import json as json_format
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eurekaflow.models.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eurekaflow.models.archive import Archive
    from eurekaflow.models.rows import AttemptRow
    from eurekaflow.verifiers.problem import Problem, Remeasurement, Verdict

CHECKABLE = ("erdos", "ac1", "ac2", "circle-packing-26", "circle-packing-32")
READ_ME = """\
# {title}

{metric} {printed}, {better} is better. Found by eurekaflow, run {run}, attempt {attempt}.

- `answer.json`: the construction. `eureka verify {problem} answer.json --exact` reads it.
- `claim.json`: its exact value as a fraction, and how it was measured.
- `check.py`: checks both with the standard library alone: `python -I -S check.py`
"""


def export_claim(run: str, folder: Path) -> dict[str, Any]:
    """Write the best answer of a run as a folder that proves itself; returns claim.json.

    Raises UsageError for a run without a valid attempt, a problem without an exact construction,
    or an answer that does not stand the exact verification.
    """
    from eurekaflow.flows.verdict_report import printed

    with _finalists(run, count=1) as (archive, problem, attempts):
        attempt = attempts[0]
        if problem.answer == "cpp":
            return _submission(folder, problem, attempt, archive.program(attempt.id) or "")
        construction = archive.construction(attempt.id)
        if problem.name not in CHECKABLE or construction is None:
            raise UsageError(
                f"{problem.name} has no construction that a standalone checker could check",
                "eureka best RUN --out FILE writes the program; eureka best RUN --final measures",
            )
        verdict = _measured(archive, problem, attempt)
        _record(archive, problem, attempt, verdict)
        answer = problem.answer_of(construction)
        content = {
            "problem": problem.name,
            "metric": problem.metric,
            "direction": problem.direction,
            "exact": verdict.exact,
            "printed": printed(problem, verdict.exact),
            "records": [vars(r) for r in problem.records],
            "verifier_version": problem.version,
            "run": run_name(archive, attempt),
            "attempt": attempt.id,
        }
        _write(folder, problem, answer, content)
        return content


def _submission(
    folder: Path, problem: Problem, attempt: AttemptRow, program: str
) -> dict[str, Any]:
    """A contest's answer: the one file that its site accepts."""
    from eurekaflow.verifiers.contest import Contest

    assert isinstance(problem, Contest)
    assert attempt.value is not None
    _fill(folder, {"submission.cpp": problem.standalone(program)})
    return {
        "problem": problem.name,
        "attempt": attempt.id,
        "file": "submission.cpp",
        "value": attempt.value,
        "score": problem.score(attempt.value),
        "metric": f"sum over {problem.described_cases}",
        "cases": len(problem.cases()),
    }


def _write(folder: Path, problem: Problem, answer: object, content: dict[str, Any]) -> None:
    from eurekaflow.verifiers import standalone_check

    better = "lower" if problem.direction == "min" else "higher"
    files = {
        "answer.json": json_format.dumps(answer),
        "claim.json": json_format.dumps(content, indent=2, ensure_ascii=False),
        "check.py": Path(standalone_check.__file__).read_text(encoding="utf-8"),
        "README.md": READ_ME.format(title=problem.title, better=better, **content),
    }
    _fill(folder, files)


def _fill(folder: Path, files: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error}", "choose another folder") from None


def recheck(run: str) -> list[dict[str, Any]]:
    """Measure a run's best attempt in its problem's claim mode; what was written to claims."""
    with _finalists(run, count=1) as (archive, problem, attempts):
        verdict = _measured(archive, problem, attempts[0])
        return [_record(archive, problem, attempts[0], verdict)]


def final(run: str) -> list[dict[str, Any]]:
    """Measure the finalists as the final selection asks; what was written to claims.

    Best first, those in the problem's claim mode before others.

    A problem with held-out material gives `Problem.remeasure`; the others are measured in their
    claim mode.
    """
    written: list[dict[str, Any]] = []
    with _finalists(run) as (archive, problem, attempts):
        for attempt in attempts:
            results = _held_out(archive, problem, attempt)
            for result in results or ():
                row = _row(problem, attempt, result.mode, result.value, result.message, "")
                row |= {} if result.score is None else {"score": result.score}
                written.append(_store(archive, attempt, row))
            if results == []:
                verdict = _measured(archive, problem, attempt)
                written.append(_record(archive, problem, attempt, verdict))
    if not written:
        raise UsageError("no finalist stands the final measurement", f"eureka show {run}")
    return sorted(written, key=lambda row: (row["mode"] != problem.claim_mode, -row["value"]))


def _held_out(
    archive: Archive, problem: Problem, attempt: AttemptRow
) -> list[Remeasurement] | None:
    """What the problem measures on held-out material; None when the program fails there."""
    import sys

    from eurekaflow.flows.finals import remeasured
    from eurekaflow.models.settings import RunConfig
    from eurekaflow.verifiers.problem import InvalidAnswer

    config = RunConfig.model_validate(archive.run(attempt.run_id).config)
    try:
        return remeasured(problem, archive.program(attempt.id) or "", config)
    except InvalidAnswer as reason:
        print(f"attempt {attempt.id}: {reason}", file=sys.stderr)
        return None


@contextmanager
def _finalists(
    run: str, *, count: int | None = None
) -> Iterator[tuple[Archive, Problem, list[AttemptRow]]]:
    """The open archive, the problem and the best attempts of a run."""
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.connection import existing_archive
    from eurekaflow.flows.finals import finalists
    from eurekaflow.flows.scoring import find
    from eurekaflow.models.archive import Archive

    with existing_archive(surroundings()) as url:
        archive = Archive(url)
        try:
            row = archive.run(run)
            problem = find(row.config["problem"]).with_cases(row.config["cases"])
            if problem.trust == "foreign":
                raise UsageError(
                    f"{problem.name} is scored by a foreign evaluator, on whose word nothing can "
                    "be claimed",
                    "write a verifier of your own: eureka problem new FILE",
                )
            attempts = (
                archive.best_attempts(row.id, count) if count else finalists(archive, row, problem)
            )
            if not attempts:
                raise UsageError(f"run {row.uuid} has no valid attempt yet", f"eureka show {run}")
            yield archive, problem, attempts
        finally:
            archive.close()


def _measured(archive: Archive, problem: Problem, attempt: AttemptRow) -> Verdict:
    """The stored answer judged in the claim mode. Raises UsageError if it does not hold."""
    from eurekaflow.flows.judging import judging
    from eurekaflow.flows.scoring import judged
    from eurekaflow.models.settings import RunConfig
    from eurekaflow.verifiers.sandbox import Cause, Execution

    config = RunConfig.model_validate(archive.run(attempt.run_id).config)
    spec, mode = config.problem, problem.claim_mode
    construction = archive.construction(attempt.id)
    if construction is not None and problem.answer == "python":
        data = json_format.dumps(problem.answer_of(construction)).encode()
        with judging(problem) as judge:
            returned = Execution(cause=Cause.RETURNED, result=data)
            verdict = judge.verdict(spec, returned, mode=mode)
    else:  # a matrix, a kernel's time, a contest's score: not kept, so the program runs anew
        problem.require()
        program = archive.program(attempt.id) or ""
        file = Path(f"attempt-{attempt.id}")
        verdict = judged(
            problem, spec, file, program, mode=mode, budget=config.budget_s, seed=0, config=config
        )
    if verdict.value is None:
        raise UsageError(
            f"attempt {attempt.id} does not stand {problem.claim_mode} verification: "
            f"{verdict.message}",
            "nothing was claimed",
        )
    return verdict


def _record(
    archive: Archive, problem: Problem, attempt: AttemptRow, verdict: Verdict
) -> dict[str, Any]:
    assert verdict.value is not None
    message = _standing(problem, verdict) or verdict.message
    row = _row(problem, attempt, verdict.mode, verdict.value, message, verdict.exact)
    return _store(archive, attempt, row)


def _row(
    problem: Problem, attempt: AttemptRow, mode: str, value: float, message: str, exact: str
) -> dict[str, Any]:
    from eurekaflow.flows.launch import hardware

    return {
        "attempt": attempt.id,
        "verifier_version": problem.version,
        "mode": mode,
        "value": value,
        "score": problem.score(value),
        "archived_score": None if attempt.value is None else problem.score(attempt.value),
        "exact": exact,
        "message": message,
        "hardware": hardware(),
    }


def _store(archive: Archive, attempt: AttemptRow, row: dict[str, Any]) -> dict[str, Any]:
    names = ("verifier_version", "mode", "value", "hardware", "message", "exact")
    number = archive.add_claim(attempt.id, **{name: row[name] for name in names})
    return {"claim": number, **row}


def _standing(problem: Problem, verdict: Verdict) -> str:
    """How the measured value stands against the record, in exact arithmetic where there is one."""
    record = problem.record()
    if record is None or verdict.value is None:
        return ""
    score = Fraction(verdict.exact) if verdict.exact else Fraction(problem.score(verdict.value))
    gap = score - Fraction(str(record.score))
    ahead = -gap if problem.direction == "min" else gap
    if ahead <= 0:
        return f"{float(-ahead):.3g} short of {record.holder}'s {record.score:.10g}"
    return f"{float(ahead):.3g} better than {record.holder}'s {record.score:.10g}"


def run_name(archive: Archive, attempt: AttemptRow) -> str:
    """The public name of an attempt's run."""
    return str(archive.run(attempt.run_id).uuid)
