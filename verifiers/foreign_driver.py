"""Runs a foreign evaluator on one candidate, inside the candidate's sandbox.

This file's text is the program of the job, so it imports the standard library alone. It unpacks a
copy of the evaluator's folder into the private temporary folder, offers a stand-in for the parts
of `openevolve` that evaluators import, makes `python` and its packages findable for the processes
that evaluators start, and walks the stages of a cascade as OpenEvolve does. Nothing of it is a
wall: candidate and evaluator share one sandbox and one interpreter, which is why such scores are
not trusted.
"""

import asyncio
import base64
import importlib.util
import inspect
import io
import os
import sys
import tarfile
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

Metrics = dict[str, float | bool | str]

TEXT_CHARACTERS = 500  # of a metric that is text
ARTIFACT_CHARACTERS = 200  # of an artifact, shown to the next attempt


def evaluate_candidate(
    source: str,
    folder: str,
    evaluator: str,
    suffix: str,
    thresholds: Sequence[float] | None,
    package: Mapping[str, str],
) -> dict[str, Any]:
    """Metrics of the candidate `source`; `thresholds` is None without a cascade.

    `package` holds the files of the stand-in for `openevolve`, by path.
    """
    home = os.getcwd()
    place = os.path.join(home, "examples", "folder")  # evaluators look some parents up
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(folder))) as packed:
        packed.extractall(place, filter="data")
    _offer(home, package)
    with tempfile.NamedTemporaryFile("w", suffix=suffix, delete=False, encoding="utf-8") as file:
        file.write(source)
    os.chdir(place)
    sys.path.insert(0, place)
    sys.argv = [os.path.join(place, evaluator)]
    try:
        module = _module(sys.argv[0])
        metrics, artifacts, stage = _cascade(module, file.name, thresholds)
    except MemoryError:
        raise
    except BaseException as raised:
        traceback.print_exc()
        return {"raised": f"{type(raised).__name__}: {raised}"[:TEXT_CHARACTERS]}
    for name, text in artifacts.items():
        print(f"{name}: {str(text)[-ARTIFACT_CHARACTERS:]}")
    return {"metrics": metrics, "stage": stage}


def _offer(home: str, package: Mapping[str, str]) -> None:
    """The stand-in package, and `python` with our packages for whatever the evaluator starts."""
    shim, programs = os.path.join(home, "shim"), os.path.join(home, "bin")
    for name, text in package.items():
        path = os.path.join(shim, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    os.mkdir(programs)
    for name in ("python", "python3"):
        os.symlink(sys.executable, os.path.join(programs, name))
    sys.path.insert(0, shim)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    os.environ["PATH"] = programs + os.pathsep + os.environ["PATH"]
    os.environ["MPLBACKEND"] = "Agg"


def _module(path: str) -> Any:
    """The evaluator's module, under the name that OpenEvolve gives it."""
    spec = importlib.util.spec_from_file_location("evaluation_module", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["evaluation_module"] = module
    spec.loader.exec_module(module)
    return module


def _cascade(
    module: Any, path: str, thresholds: Sequence[float] | None
) -> tuple[Metrics, dict[Any, Any], int]:
    """Merged metrics and artifacts of the stages passed, and how many ran; 0: no cascade."""
    if thresholds is None or not hasattr(module, "evaluate_stage1"):
        return (*_asked(module.evaluate, path), 0)
    metrics, artifacts = _asked(module.evaluate_stage1, path)
    for number in (2, 3):
        stage = getattr(module, f"evaluate_stage{number}", None)
        known = len(thresholds) >= number - 1
        if not known or not _passes(metrics, thresholds[number - 2]) or stage is None:
            return metrics, artifacts, number - 1
        try:
            more, notes = _asked(stage, path)
        except Exception:  # as in OpenEvolve: what the stages before gave counts
            traceback.print_exc()
            return {**metrics, f"stage{number}_passed": 0.0}, artifacts, number - 1
        metrics, artifacts = {**metrics, **more}, {**artifacts, **notes}
    return metrics, artifacts, 3


def _asked(evaluate: Any, path: str) -> tuple[Metrics, dict[Any, Any]]:
    result = evaluate(path)
    if inspect.isawaitable(result):
        result = asyncio.run(_awaited(result))
    artifacts = getattr(result, "artifacts", None)
    metrics = getattr(result, "metrics", result)
    if not isinstance(metrics, dict):
        raise TypeError(f"evaluate returned {type(result).__name__}, not a dict of metrics")
    if isinstance(metrics.get("artifacts"), dict):
        artifacts = metrics["artifacts"]
        metrics = {name: value for name, value in metrics.items() if name != "artifacts"}
    if isinstance(metrics.get("metrics"), dict) and not _scores(metrics):
        metrics = metrics["metrics"]
    return _plain(metrics), dict(artifacts) if isinstance(artifacts, dict) else {}


def _scores(metrics: Mapping[Any, Any]) -> bool:
    """Whether a result has a score or numbers of its own, beside a part called "metrics"."""
    return "combined_score" in metrics or any(isinstance(v, Real) for v in metrics.values())


async def _awaited(result: Any) -> Any:
    return await result


def _plain(metrics: Mapping[Any, Any]) -> Metrics:
    """Numbers, truth values and short texts; everything else by its name alone."""
    plain: Metrics = {}
    for name, value in metrics.items():
        if type(value).__name__ in ("bool", "bool_"):
            plain[str(name)] = bool(value)
        elif isinstance(value, Real):
            plain[str(name)] = _number(value)
        else:
            plain[str(name)] = str(value)[:TEXT_CHARACTERS]
    return plain


def _number(value: Any) -> float | str:
    """A float, or text for what JSON has no number for."""
    number = float(value)
    return number if number - number == 0 else str(number)


def _passes(metrics: Metrics, threshold: float) -> bool:
    """OpenEvolve's rule: the combined score, else the mean of the numbers but `error`."""
    combined = metrics.get("combined_score")
    if isinstance(combined, float):
        return combined >= threshold
    numbers = [v for k, v in metrics.items() if k != "error" and isinstance(v, (float, bool))]
    return bool(numbers) and sum(numbers) / len(numbers) >= threshold
