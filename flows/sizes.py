"""The commands `db size` and `db prune`: how the archive grows, and what of it may go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eurekaflow.flows.options import Flag, Json
from eurekaflow.models.errors import RunOwned, UsageError

if TYPE_CHECKING:
    from eurekaflow.models.archive import Archive, RunRow


def size(*, json: Json = False) -> int:
    """How large the archive's tables are, and what each further step will add.

    Parameters
    ----------
    json
        Print JSON on stdout.
    """
    from eurekaflow.flows import rendering
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.connection import open_archive
    from eurekaflow.models.questions import GROWTH, TABLE_SIZES, ask

    with open_archive(surroundings()) as url:
        tables = rendering.records(*ask(url, TABLE_SIZES))
        growth = rendering.records(*ask(url, GROWTH))
    per_attempt = growth[0]["bytes_per_attempt"] if growth else None
    runs = [row for row in growth if row["run"] is not None]
    for row in runs:
        del row["bytes_per_attempt"]
    if json:
        rendering.print_json({"tables": tables, "bytes_per_attempt": per_attempt, "runs": runs})
    else:
        _print(tables, per_attempt, runs)
    return 0


def _print(tables: list[dict[str, Any]], per_attempt: float | None, runs: Any) -> None:
    from eurekaflow.flows import rendering

    shown = [(t["table"], int(t["rows"]), rendering.size(t["bytes"])) for t in tables]
    rendering.print_table(("table", "rows, about", "size"), shown)
    if per_attempt is None:
        return
    print(f"an attempt takes {rendering.size(per_attempt)}, everything counted")
    for run in runs:
        if run["bytes_per_step"] is not None:
            step, rest = (rendering.size(run[k] or 0) for k in ("bytes_per_step", "bytes_to_come"))
            left = f", {rest} for the {run['steps_left']} to come" if run["steps_left"] else ""
            print(f"run {str(run['run'])[:8]} ({run['problem']}): {step} a step{left}")


def prune(
    ref: str,
    /,
    *,
    keep_steps: int = 10,
    tokens: Flag = False,
    bodies: Flag = False,
    dry_run: Flag = False,
    json: Json = False,
) -> int:
    """Drop tokens and texts of old committed steps; no attempt is ever removed.

    Kept in any case: seeds, the tree, every improvement and all their ancestors; tokens newer
    than the oldest kept checkpoint. What was dropped is recorded in the view `prunings`.

    Parameters
    ----------
    ref
        The run's id or the beginning of it, `last`, or `all`.
    keep_steps
        Committed steps, counted from the newest, that stay whole.
    tokens
        Drop token ids and log-probs alone.
    bodies
        Drop prompts, responses, programs, output and constructions alone.
    dry_run
        Change nothing; say what would go.
    json
        Print JSON on stdout.
    """
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.connection import existing_archive
    from eurekaflow.models.archive import Archive

    if keep_steps < 0:
        raise UsageError(f"--keep-steps {keep_steps} is negative", "give 0 or more")
    policy = {
        "keep_steps": keep_steps,
        "tokens": tokens or not bodies,
        "bodies": bodies or not tokens,
        "dry_run": dry_run,
    }
    with existing_archive(surroundings()) as url:
        archive = Archive(url)
        try:
            found = archive.runs(limit=1_000_000) if ref == "all" else [archive.run(ref)]
            done = [_prune(archive, run, policy, strict=ref != "all") for run in found]
            if not dry_run:
                archive.vacuum()
        finally:
            archive.close()
    return _report([row for row in done if row], dry_run=dry_run, json=json)


def _prune(
    archive: Archive, run: RunRow, policy: dict[str, Any], *, strict: bool
) -> dict[str, Any]:
    """What one run lost; of several runs, one that is owned is passed over."""
    import sys
    from dataclasses import asdict

    try:
        return {"run": str(run.uuid), **asdict(archive.prune(run.id, **policy))}
    except RunOwned as error:
        if strict:
            raise
        print(f"left alone: {error.message}", file=sys.stderr)
        return {}


def _report(done: list[dict[str, Any]], *, dry_run: bool, json: bool) -> int:
    from eurekaflow.flows import rendering

    if json:
        rendering.print_json(done)
        return 0
    verb = "would drop" if dry_run else "dropped"
    for row in done:
        print(
            f"run {row['run'][:8]}: {verb} tokens of {row['tokens']:,} attempts and "
            f"{row['bodies']:,} texts, {rendering.size(row['bytes'])} as stored"
        )
    return 0
