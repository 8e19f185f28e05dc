"""The benchmarks start on any machine: figures are theirs to make, by hand."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted(file.stem for file in Path(__file__).parent.glob("benchmarks/*.py"))
TORCH = pytest.param("gpu_step", marks=pytest.mark.slow)  # imports it


def run(name: str, *arguments: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sys, "argv", [name, *arguments])
    importlib.import_module(f"tests.benchmarks.{name}").main()


@pytest.mark.parametrize("name", [*(name for name in SCRIPTS if name != "gpu_step"), TORCH])
def test_every_benchmark_starts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        run(name, "--help", patch=monkeypatch)
    assert ended.value.code == 0


@pytest.mark.parametrize("name", ["kernels", TORCH])
def test_a_benchmark_that_needs_a_gpu_says_so_in_a_line_and_succeeds(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module(f"tests.benchmarks.{name}")
    if name == "kernels":
        monkeypatch.setattr(script, "require_gpu", no_gpu)
    else:
        monkeypatch.setattr(script.torch.cuda, "is_available", lambda: False)
    run(name, patch=monkeypatch)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("nothing to measure: ")


def no_gpu() -> None:
    from eurekaflow.verifiers.problem import PrerequisiteAbsent

    raise PrerequisiteAbsent("this machine has none", "use another")


@pytest.mark.services
def test_the_overhead_of_no_runs_is_an_empty_table(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUREKA_DATABASE_URL", database_url)
    run("step_overhead", patch=monkeypatch)
    assert len(capsys.readouterr().out.splitlines()) == 1
