"""Flags that give a problem data of the user's own: `--h5ad` and what is to be read of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

from cyclopts import Parameter

from eurekaflow.models.errors import UsageError

PROBLEM = "denoising"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Counts of the user's own, for the problem `denoising`."""

    h5ad: Path | None = None
    """denoising: your own counts, an .h5ad file."""
    layer: str | None = None
    """Layer of the .h5ad file that holds the counts; `raw` is raw/X."""
    obs_key: str | None = None
    """Column of obs to choose cells by."""
    obs_value: str | None = None
    """Value of that column; the other cells are left out."""
    name: str | None = None
    """Official data set that the file should be: pancreas, pbmc or tabula."""
    held_out: Path | None = None
    """A second .h5ad file, for the final selection only."""


Data = Annotated[DataOptions | None, Parameter(show_default=False)]


def with_data(problem: str, data: DataOptions | None) -> str:
    """The spec of the problem on that data; what was found in it goes to stderr.

    Raises UsageError for another problem or for a file without counts.
    """
    given = {} if data is None else {k: v for k, v in vars(data).items() if v is not None}
    if not given:
        return problem
    if problem != PROBLEM or "h5ad" not in given:
        raise UsageError(
            f"--{next(iter(given)).replace('_', '-')} needs the problem {PROBLEM} and --h5ad FILE",
            f"eureka run {PROBLEM} --h5ad FILE",
        )
    options = {k: str(v.resolve()) if isinstance(v, Path) else v for k, v in given.items()}
    spec = f"{problem}?{urlencode(options)}"
    for line in _described(spec):
        print(line, file=sys.stderr)
    return spec


def _described(spec: str) -> list[str]:
    from eurekaflow.flows.scoring import find
    from eurekaflow.verifiers.denoising import Denoising

    problem = find(spec)
    assert isinstance(problem, Denoising)
    try:
        return problem.describe()
    except ValueError as error:
        raise UsageError(
            str(error), "check the file and --layer, --obs-key, --obs-value"
        ) from None
