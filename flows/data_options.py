"""Flags that give a problem data of the user's own: `--h5ad` and what is to be read of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlencode

from cyclopts import Parameter

from eurekaflow.models.errors import UsageError

PROBLEM = "denoising"
OFFICIAL_SPLIT = "0"


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
    split: int | None = None
    """denoising: seed of the split into train and test, 42 by default; 0 is the official one."""
    held_out: Annotated[list[Path] | None, Parameter(negative="")] = None
    """Another .h5ad file, for the final selection only; repeatable."""


Data = Annotated[DataOptions | None, Parameter(show_default=False)]


def with_data(problem: str, data: DataOptions | None, *, official: bool = False) -> str:
    """The spec of the problem on that data; what was found in it goes to stderr.

    Options that the spec has already (`denoising?split=7`) stay unless a flag says otherwise, and
    the official mode is that of split 0 unless either does. Raises UsageError for another problem
    or for a file without counts.
    """
    given = {} if data is None else {k: v for k, v in vars(data).items() if v is not None}
    name, _, before = problem.partition("?")
    if name != PROBLEM or not (given or official):
        if given:
            raise _misplaced(given)
        return problem
    options = {**dict(parse_qsl(before)), **{k: _text(v) for k, v in given.items()}}
    if given.keys() - {"split"} and "h5ad" not in options:
        raise _misplaced(given)
    if official:
        options.setdefault("split", OFFICIAL_SPLIT)
    spec = f"{name}?{urlencode(options)}"
    for line in _described(spec) if given else ():
        print(line, file=sys.stderr)
    return spec


def _misplaced(given: Mapping[str, object]) -> UsageError:
    flag = next(iter(given.keys() - {"split"} or given)).replace("_", "-")
    file = "" if flag == "split" else " and --h5ad FILE"
    needed = f"--{flag} needs the problem {PROBLEM}{file}"
    return UsageError(needed, f"eureka run {PROBLEM} --h5ad FILE")


def _text(value: object) -> str:
    """An option as a spec holds it: absolute paths, several of them as in PATH."""
    if isinstance(value, list):
        return os.pathsep.join(map(_text, value))
    return str(value.resolve()) if isinstance(value, Path) else str(value)


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
