"""The commands that look at runs: `runs`, `show`, `best`, `tree`. They change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eurekaflow.flows.options import Flag, Json
from eurekaflow.flows.trust import told
from eurekaflow.models.errors import UsageError

Row = dict[str, Any]


def runs(*, limit: int = 20, json: Json = False) -> int:
    """List the runs, newest first.

    Parameters
    ----------
    limit
        How many.
    json
        Print JSON on stdout.
    """
    from eurekaflow.flows.connection import NoArchive
    from eurekaflow.models.questions import RUNS

    try:
        found = _rows(RUNS, limit=limit)
    except NoArchive:
        found = []
    if not json:  # the beginning of the id is enough to name a run
        found = [{**row, "run": str(row["run"])[:8]} for row in found]
    columns = list(found[0]) if found else []
    return _show(columns, found, json=json, empty="no runs yet; start one: eureka run erdos")


def show(ref: str = "last", /, *, json: Json = False) -> int:
    """Show one run, step by step.

    Parameters
    ----------
    ref
        The run's id or the beginning of it; the newest run by default.
    json
        Print JSON on stdout.
    """
    from eurekaflow.flows import rendering
    from eurekaflow.flows.diagnosis import diagnose
    from eurekaflow.models.questions import OPEN_SLOTS, RUN_STEPS

    run = one_run(ref)
    steps, missing = (_rows(question, run=run["run"]) for question in (RUN_STEPS, OPEN_SLOTS))
    stage = steps[-1]["stage"] if steps else None
    if json:
        found = {"stage": stage, "missing": missing, "diagnosis": diagnose(run, steps)}
        rendering.print_json({**run, **found, "progress": steps})
        return 0
    hidden = {"config", "versions", "fingerprint", "hardware"}
    pairs = {name: value for name, value in run.items() if name not in hidden}
    pairs |= {"stage": f"step {steps[-1]['step']} {stage}" if steps else None}
    pairs |= {"trust": told(run["trust"]) or run["trust"]}
    pairs |= {"missing": "; ".join(map(_open_group, missing)) or None}
    rendering.print_pairs(pairs.items())
    for sentence in diagnose(run, steps):
        print(rendering.printable(sentence))
    columns = [name for name in (steps[0] if steps else ()) if name != "failures"]
    return _show(columns, steps, json=False, empty="no step yet")


def _open_group(row: Row) -> str:
    """What is missing of one group of an unfinished step."""
    parts = [
        f"{name} {', '.join(map(str, row[key]))}"
        for name, key in (
            ("responses", "without_response"),
            ("verdicts", "without_verdict"),
        )
        if row[key]
    ]
    return f"group {row['group_index']}: {' and '.join(parts)}"


def best(
    ref: str = "last",
    /,
    *,
    program: Flag = False,
    out: Path | None = None,
    recheck: Flag = False,
    final: Flag = False,
    json: Json = False,
) -> int:
    """Show a run's best attempt, or write its program.

    Parameters
    ----------
    ref
        The run's id or the beginning of it; the newest run by default.
    program
        Print the program alone on stdout.
    out
        Write the program to this file, or the construction when its name ends in .json, with
        where it is from and how to measure it again: as a comment, or in a file beside it.
    recheck
        Measure the best attempt again as claims are, exactly where possible; kept in `claims`.
    final
        Measure the finalists as the final selection asks, on held-out material where there is
        some; kept in `claims`.
    json
        Print JSON on stdout.
    """
    from eurekaflow.flows import rendering
    from eurekaflow.models.questions import BEST

    if recheck or final:
        return _remeasure(ref, final=final, json=json)
    run = one_run(ref)
    found = _rows(BEST, run=run["run"])
    if not found:
        raise UsageError(f"run {run['run']} has no valid attempt yet", f"eureka show {ref}")
    attempt = found[0]
    if out is not None:
        return _write(attempt, run, out)
    if program:
        print(attempt["program"] or "")
    elif json:
        rendering.print_json(attempt)
    else:
        hidden = {"program", "construction"}
        pairs = {k: v for k, v in attempt.items() if k not in hidden}
        rendering.print_pairs({**pairs, "trust": told(attempt["trust"]) or "verified"}.items())
        print(f"\n{rendering.printable(attempt['program'] or '')}")
    return 0


def _remeasure(ref: str, *, final: bool, json: bool) -> int:
    """Measure again and show what was written to claims."""
    from eurekaflow.flows import claims, rendering

    run = str(one_run(ref)["run"])
    written = claims.final(run) if final else claims.recheck(run)
    if json:
        rendering.print_json(written if final else written[0])
        return 0
    for row in written:
        rendering.print_pairs((k, v) for k, v in row.items() if k not in ("exact", "hardware"))
    return 0


def _write(attempt: Row, run: Row, out: Path) -> int:
    """Write the program or the construction with its provenance."""
    import sys

    from eurekaflow.flows.provenance import write
    from eurekaflow.models.questions import CLAIM

    claims = _rows(CLAIM, attempt=attempt["attempt"])
    files = write(attempt, run, claims[0] if claims else None, out)
    print(f"wrote {' and '.join(map(str, files))}", file=sys.stderr)
    return 0


def tree(ref: str = "last", /, *, limit: int = 20, json: Json = False) -> int:
    """Show the nodes the search may build on, best first.

    Parameters
    ----------
    ref
        The run's id or the beginning of it; the newest run by default.
    limit
        How many nodes.
    json
        Print JSON on stdout.
    """
    from eurekaflow.models.questions import TREE

    found = _rows(TREE, run=one_run(ref)["run"], limit=limit)
    return _show(list(found[0]) if found else (), found, json=json, empty="no node yet")


def _rows(question: str, **values: object) -> list[Row]:
    """The answer to one of the named questions."""
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.connection import existing_archive
    from eurekaflow.flows.rendering import records
    from eurekaflow.models.questions import ask

    with existing_archive(surroundings()) as url:
        return records(*ask(url, question, **values))


def one_run(ref: str) -> Row:
    """The run that `ref` names. Raises UsageError when none or several do."""
    from eurekaflow.models.questions import RUN

    found = _rows(RUN, ref=ref.strip().lower())
    if len(found) == 1 or (found and str(found[0]["run_id"]) == ref):
        return found[0]
    if not found and ref == "last":
        raise UsageError("there is no run yet", "eureka run erdos")
    if not found:
        raise UsageError(f"no run is called {ref!r}", "eureka runs lists them")
    ids = ", ".join(str(run["run"])[:13] for run in found[:5])
    raise UsageError(f"{len(found)} runs begin with {ref!r}: {ids}", "give more of the id")


def _show(columns: Sequence[str], found: list[Row], *, json: bool, empty: str) -> int:
    from eurekaflow.flows import rendering

    if json:
        rendering.print_json(found)
    else:
        rows = [[row[name] for name in columns] for row in found]
        rendering.print_table(columns, rows, empty=empty)
    return 0
