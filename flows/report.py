"""`eureka report`: the morning report of a run as files, and as artifacts on Prefect's pages."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eurekaflow.models.errors import UsageError

if TYPE_CHECKING:
    from eurekaflow.flows.report_page import Report
    from eurekaflow.verifiers.problem import Construction, Problem


def report(ref: str = "last", /, *, out: Path | None = None, compare: list[Path] = []) -> int:  # noqa: B006
    """Write a run's report as a page and as markdown.

    Parameters
    ----------
    ref
        The run's id or the beginning of it; the newest run by default.
    out
        Folder of the two files; reports/ in the data folder by default.
    compare
        JSON files with constructions to draw beside the best one.
    """
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.connection import existing_archive
    from eurekaflow.flows.reading import one_run

    here = surroundings()
    with existing_archive(here) as url:
        run = one_run(ref)
        made = of_run(url, str(run["run"]), constructions(compare))
    page, notes = write(made, out or here.home / "reports")
    print(page)
    print(f"the same as markdown: {notes}", file=sys.stderr)
    return 0


def of_run(url: str, run: str, compare: dict[str, Construction] | None = None) -> Report:
    """The report of the run with this uuid."""
    from eurekaflow.flows.rendering import records
    from eurekaflow.flows.report_page import build
    from eurekaflow.models.questions import RUN, ask

    row = records(*ask(url, RUN, ref=run))[0]
    return build(
        url, str(row["run"]), _problem(row["config"].get("problem", row["problem"])), compare
    )


def write(made: Report, folder: Path) -> tuple[Path, Path]:
    """Write the page and the markdown; their paths. Raises UsageError for an unwritable folder."""
    from eurekaflow.flows.report_text import markdown

    page, notes = folder / f"report-{made.short}.html", folder / f"report-{made.short}.md"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page.write_text(made.html(), encoding="utf-8")
        notes.write_text(markdown(made), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{page} cannot be written: {error}", "give --out FOLDER") from None
    return page, notes


def constructions(files: Sequence[Path]) -> dict[str, Construction]:
    """Constructions to compare with, by file name. Raises UsageError for what is none."""
    import numpy as np

    found = {}
    for path in files:
        try:
            array = np.asarray(json.loads(path.read_text(encoding="utf-8")), dtype=np.float64)
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(
                f"{path} holds no construction: {error}", "give a JSON list"
            ) from None
        if array.ndim not in (1, 2) or not array.size or not math.isfinite(float(array.sum())):
            raise UsageError(f"{path} holds no construction of finite numbers", "give a JSON list")
        found[str(path) if path.stem in found else path.stem] = array
    return found


def _problem(spec: str) -> Problem | None:
    """The problem, for its picture and rewards; a report needs no more, so a lost file is fine."""
    from eurekaflow.verifiers.lookup import load

    try:
        return load(spec)
    except (ValueError, OSError):
        return None
