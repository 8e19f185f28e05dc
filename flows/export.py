"""The command `export`: a run's views as parquet, CSV, JSON lines, or one SQLite file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from eurekaflow.flows.options import Flag, Json
from eurekaflow.models.errors import UsageError

Format = Literal["parquet", "csv", "jsonl", "sqlite"]


def export(
    ref: str = "last",
    /,
    *,
    format: Format = "parquet",
    out: Path | None = None,
    views: tuple[str, ...] = (),
    adapter: Path | None = None,
    claim: Path | None = None,
    force: Flag = False,
    json: Json = False,
) -> int:
    """Write a run to files: parquet, CSV, JSON lines or SQLite.

    One file per view in a folder, or one SQLite file with a table per view. Rows are streamed at
    one snapshot, so that a run may go on meanwhile and memory stays small.

    Parameters
    ----------
    ref
        The run's id or the beginning of it; the newest run by default.
    format
        parquet (needs pyarrow), csv, jsonl (one JSON object a line) or sqlite (for Datasette).
    out
        Folder, or file for sqlite; by default named after the run, in the current folder.
    views
        Only these views; may be repeated.
    adapter
        Save the policy instead: a new folder that `peft.PeftModel.from_pretrained` opens.
    claim
        Write the best answer instead: a folder with it, its exact value and a standalone
        checker; of a contest, the file that its site accepts.
    force
        Replace what an earlier export left there.
    json
        Print what was written as JSON on stdout.
    """
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.connection import existing_archive
    from eurekaflow.flows.reading import one_run
    from eurekaflow.models.exports import writer
    from eurekaflow.models.outgoing import EXPORTED, outgoing

    if adapter is not None:
        from eurekaflow.flows.policies import export_adapter

        print(f"wrote {export_adapter(ref, adapter)}", file=sys.stderr)
        return 0
    if claim is not None:
        return _claim(ref, claim, json=json)
    run = one_run(ref)
    target = out or Path(f"{run['problem']}-{str(run['run'])[:8]}{_ending(format)}")
    _make_room(target, force=force)
    counts: dict[str, int] = {}
    with (
        existing_archive(surroundings()) as url,
        writer(format, target) as write,
        outgoing(url, run["run_id"], views or tuple(EXPORTED)) as found,
    ):
        for rows in found:
            counts[rows.view] = write(rows)
    _report(run, target, counts, json=json)
    return 0


def _claim(ref: str, folder: Path, *, json: bool) -> int:
    from eurekaflow.flows.claims import export_claim
    from eurekaflow.flows.rendering import print_json

    content = export_claim(ref, folder)
    if json:
        print_json(content)
    check = folder / "check.py"
    how = f"; check it: python -I -S {check}"
    if "cases" in content:
        how = f"/{content['file']}: {content['metric']} {content['score']:.10g}"
    print(f"wrote {folder}{how}", file=sys.stderr)
    return 0


def _ending(format: Format) -> str:
    return ".sqlite" if format == "sqlite" else ""


def _make_room(target: Path, *, force: bool) -> None:
    """Raise UsageError where something stands that nobody said may go."""
    import shutil

    if not target.exists():
        return
    if not force:
        raise UsageError(f"{target} is there already", "choose another --out, or add --force")
    if target.is_file():
        target.unlink()
    elif (target / "export.json").exists():
        shutil.rmtree(target)
    else:
        raise UsageError(f"{target} is no earlier export", "choose another --out")


def _report(run: dict[str, Any], target: Path, counts: dict[str, int], *, json: bool) -> None:
    import json as encoder
    import sys

    from eurekaflow.flows import rendering

    about = {
        "run": str(run["run"]),
        "problem": run["problem"],
        "state": run["state"],
        "versions": run["versions"],
        "rows": counts,
    }
    if target.is_dir():
        text = encoder.dumps(rendering.plain(about), indent=2)
        (target / "export.json").write_text(text + "\n", encoding="utf-8")
    if json:
        rendering.print_json({**about, "out": str(target)})
    else:
        print(f"wrote {target}: {sum(counts.values()):,} rows of {len(counts)} views")
        print(f"run {run['run']}, {run['state']}", file=sys.stderr)
