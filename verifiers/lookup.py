"""Finding a problem: by canonical id, by alias, by path, by entry point."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from urllib.parse import parse_qsl

from eurekaflow.verifiers.problem import Problem

GROUP = "eurekaflow.problems"
DECLARATION = "problem.toml"  # in a folder: how its executable verifier is run

# canonical id -> (module, class), so that looking one up imports that one only
_BUILTIN = {
    "ac1": ("eurekaflow.verifiers.autocorrelation", "AC1"),
    "ac2": ("eurekaflow.verifiers.autocorrelation", "AC2"),
    "erdos": ("eurekaflow.verifiers.erdos", "Erdos"),
    "circle-packing-26": ("eurekaflow.verifiers.circle_packing", "CirclePacking26"),
    "circle-packing-32": ("eurekaflow.verifiers.circle_packing", "CirclePacking32"),
    "ahc039": ("eurekaflow.verifiers.ahc039", "Ahc039"),
    "ahc058": ("eurekaflow.verifiers.ahc058", "Ahc058"),
    "denoising": ("eurekaflow.verifiers.denoising", "Denoising"),
    "sql-query": ("eurekaflow.verifiers.sql_query", "SqlQuery"),
    "trimul": ("eurekaflow.verifiers.trimul", "TriMul"),
    "mla-decode": ("eurekaflow.verifiers.mla_decode", "MlaDecode"),
    "kernel-config": ("eurekaflow.verifiers.kernel_config", "KernelConfig"),
}
_ALIASES = {
    "cp26": "circle-packing-26",
    "cp32": "circle-packing-32",
    "mla_decode_nvidia": "mla-decode",
}


class UnknownProblem(ValueError):
    """No such problem, or a file without one; the message lists what exists."""


@cache
def load(spec: str) -> Problem:
    """The problem named `spec`: an id, an alias, an entry point's name, or a path.

    `?key=value&…` behind an id gives its options, such as `denoising?split=7`. A path names a
    `.py` file with a Problem, a `.toml` file that declares an executable verifier, or a folder
    with an evaluator.
    """
    known, question, options = spec.partition("?")
    if question and known in {*_BUILTIN, *_ALIASES}:
        return _configured(load(known), options)
    name = _ALIASES.get(spec, spec)
    if name in _BUILTIN:
        module, attribute = _BUILTIN[name]
        return _instance(getattr(importlib.import_module(module), attribute), spec)
    installed = _installed()
    if name in installed:
        return _instance(installed[name].load(), spec)
    if is_path(spec):
        return _from_path(Path(spec).expanduser())
    raise UnknownProblem(
        f"no problem named {spec!r}; there are: {', '.join(names())}; "
        "or give the path of a problem file, such as ./my_problem.py, or of a folder"
    )


def _configured(problem: Problem, options: str) -> Problem:
    try:
        return problem.configured(dict(parse_qsl(options, strict_parsing=True)))
    except ValueError as error:
        raise UnknownProblem(f"{problem.name}?{options}: {error}") from None


def is_path(spec: str) -> bool:
    """Whether `spec` means a file or a folder rather than a name."""
    if spec in _ALIASES or spec in names():
        return False
    return spec.endswith((".py", ".toml")) or "/" in spec or Path(spec).is_dir()


def names() -> list[str]:
    """Canonical ids of the built-in and the installed problems, sorted."""
    return sorted({*_BUILTIN, *_installed()})


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _instance(found: object, spec: str) -> Problem:
    problem = found() if isinstance(found, type) and issubclass(found, Problem) else found
    if not isinstance(problem, Problem):
        raise UnknownProblem(f"{spec!r} is {found!r}, not a subclass of Problem")
    return problem


def _from_path(path: Path) -> Problem:
    declared = path / DECLARATION if (path / DECLARATION).is_file() else path
    if declared.suffix == ".toml":
        from eurekaflow.verifiers import executable

        return executable.load(declared)
    if path.is_dir():
        from eurekaflow.verifiers import foreign

        return foreign.load(path)
    return _from_file(path)


def _from_file(path: Path) -> Problem:
    if not path.is_file():
        raise UnknownProblem(f"no problem file at {path}")
    module = _execute(path.resolve())
    own = [
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Problem)
        and item.__module__ == module.__name__
        and hasattr(item, "name")
    ]
    leaves = [c for c in own if not any(c is not other and issubclass(other, c) for other in own)]
    if len(leaves) != 1:
        found = ", ".join(c.__name__ for c in leaves) or "none"
        raise UnknownProblem(f"{path} must define exactly one Problem with a name; found: {found}")
    return _instance(leaves[0], str(path))


def _execute(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"eurekaflow_problem_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UnknownProblem(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def summary(problem: Problem) -> str:
    """The first line of what the problem says about itself."""
    return problem.title or (inspect.getdoc(type(problem)) or problem.name).splitlines()[0]
