"""The stand-in for the package `openevolve` inside the sandbox: what evaluators import of it.

The result type, and of `openevolve.utils` the functions on metrics and on program texts. Whatever
else is asked of it fails with a message that says so; OpenEvolve itself is not installed there.
"""

FILES: dict[str, str] = {}  # by path

FILES["openevolve/__init__.py"] = '''
import sys


class _Absent:
    """Says of any further part of the package that the stand-in has none."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.startswith("openevolve."):
            raise ModuleNotFoundError(
                f"{name} is no part of the stand-in for openevolve that evaluators get; it has "
                "evaluation_result, utils.metrics_utils, utils.format_utils, utils.code_utils and "
                "utils.async_utils: write what is needed of it into the evaluator",
                name=name,
            )


sys.meta_path.append(_Absent)  # asked last, when no file was found

from openevolve.evaluation_result import EvaluationResult
'''

FILES["openevolve/evaluation_result.py"] = '''
"""Stand-in for OpenEvolve's result type, as far as evaluators use it."""
import json
from dataclasses import dataclass, field


@dataclass
class EvaluationResult:
    metrics: dict
    artifacts: dict = field(default_factory=dict)

    @classmethod
    def from_dict(cls, metrics):
        return cls(metrics=metrics)

    def to_dict(self):
        return self.metrics

    def has_artifacts(self):
        return bool(self.artifacts)

    def get_artifact_keys(self):
        return list(self.artifacts)

    def get_artifact_size(self, key):
        value = self.artifacts.get(key, "")
        return len(value if isinstance(value, bytes) else str(value).encode())

    def get_total_artifact_size(self):
        return sum(map(self.get_artifact_size, self.artifacts))
'''

FILES["openevolve/utils/__init__.py"] = """
from openevolve.utils.async_utils import run_in_executor
from openevolve.utils.code_utils import (
    calculate_edit_distance,
    extract_code_language,
    parse_evolve_blocks,
)
from openevolve.utils.format_utils import format_improvement_safe, format_metrics_safe
from openevolve.utils.metrics_utils import (
    get_fitness_score,
    safe_numeric_average,
    safe_numeric_sum,
)
"""

FILES["openevolve/utils/metrics_utils.py"] = """
def _numbers(metrics, left_out=()):
    chosen = [v for k, v in metrics.items() if k not in left_out]
    numbers = [float(v) for v in chosen if isinstance(v, (int, float))]
    return [v for v in numbers if v == v]


def safe_numeric_sum(metrics):
    return sum(_numbers(metrics), 0.0)


def safe_numeric_average(metrics):
    numbers = _numbers(metrics)
    return sum(numbers) / len(numbers) if numbers else 0.0


def get_fitness_score(metrics, feature_dimensions=None):
    combined = metrics.get("combined_score")
    if isinstance(combined, (int, float)):
        return float(combined)
    numbers = _numbers(metrics, feature_dimensions or ())
    return sum(numbers) / len(numbers) if numbers else safe_numeric_average(metrics)


def format_feature_coordinates(metrics, feature_dimensions):
    known = [name for name in feature_dimensions if name in metrics]
    return ", ".join(
        f"{n}={metrics[n]:.2f}" if isinstance(metrics[n], (int, float)) else f"{n}={metrics[n]}"
        for n in known
    )
"""

FILES["openevolve/utils/format_utils.py"] = """
def _shown(value, form):
    return format(value, form) if isinstance(value, (int, float)) else str(value)


def format_metrics_safe(metrics):
    return ", ".join(f"{name}={_shown(value, '.4f')}" for name, value in metrics.items())


def format_improvement_safe(parent, child):
    gains = {
        name: value - parent[name]
        for name, value in child.items()
        if isinstance(value, (int, float)) and isinstance(parent.get(name), (int, float))
    }
    return ", ".join(f"{name}={gain:+.4f}" for name, gain in gains.items())
"""

FILES["openevolve/utils/code_utils.py"] = '''
def parse_evolve_blocks(code):
    """(first line, last line, text) of every marked block; lines count from 0 at the markers."""
    found, start, kept = [], None, []
    for number, line in enumerate(code.split("\\n")):
        if "EVOLVE-BLOCK-START" in line:
            start, kept = number, []
        elif "EVOLVE-BLOCK-END" in line and start is not None:
            found.append((start, number, "\\n".join(kept)))
            start = None
        elif start is not None:
            kept.append(line)
    return found


def calculate_edit_distance(first, second):
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def extract_code_language(code):
    lines = [line.strip() for line in code.splitlines()]
    for language, starts in (
        ("python", ("import ", "from ", "def ", "class ")),
        ("java", ("package ", "import java", "public class ")),
        ("cpp", ("#include", "int main", "void main")),
        ("javascript", ("function ", "const ", "let ", "console.log")),
        ("rust", ("fn ", "let mut ", "impl ", "pub fn ")),
        ("sql", ("SELECT ", "CREATE TABLE", "INSERT INTO")),
    ):
        if any(line.startswith(starts) for line in lines):
            return language
    return "unknown"
'''

FILES["openevolve/utils/async_utils.py"] = """
import asyncio
import functools


async def run_in_executor(function, *arguments, **named):
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, functools.partial(function, *arguments, **named))
"""
