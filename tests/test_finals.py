"""The final selection of kernels: who is timed again, how often, and what is told."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eurekaflow.flows import finals
from eurekaflow.flows.cli import main
from eurekaflow.verifiers import gpu_problem
from eurekaflow.verifiers.contest_trial import Trial
from eurekaflow.verifiers.gpu_problem import Kernel
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import Outcome, Verdict
from eurekaflow.verifiers.sandbox import Cause, Execution


class Archived:
    """Steps of 30 attempts: every third fails, and every program is there twice."""

    def progress(self, run: int) -> Any:
        return SimpleNamespace(step=25)

    def attempts(self, run: int, step: int) -> list[Any]:
        return [
            SimpleNamespace(id=1000 * step + i, step=step, outcome="raised" if i % 3 else "valid")
            for i in range(90)
        ]

    def best_attempts(self, run: int, count: int) -> list[Any]:
        return [SimpleNamespace(id=9000 + 3 * i, step=9, outcome="valid") for i in range(count)]

    def program(self, attempt: int) -> str:
        return f"program {attempt // 1000} {attempt % 1000 // 6}"


def selected(before: str, now: str, monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> list[Any]:
    monkeypatch.setattr(gpu_problem, "gpu_model", lambda: now)
    run: Any = SimpleNamespace(id=1, seed=seed, hardware={"gpu": before})
    archive: Any = Archived()
    return finals.finalists(archive, run, load("trimul"))


def test_on_the_training_model_the_twenty_best_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = selected("NVIDIA H200", "NVIDIA H200", monkeypatch)
    assert [a.id for a in found] == [9000 + 3 * i for i in range(20)]


def test_on_another_model_every_tenth_step_adds_correct_kernels_none_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = selected("NVIDIA H200", "NVIDIA A100", monkeypatch)[20:]
    assert {a.step for a in found} == {9, 19}
    assert {a.outcome for a in found} == {"valid"}
    programs = [Archived().program(a.id) for a in found]
    best = {Archived().program(9000 + 3 * i) for i in range(20)}
    assert len(set(programs)) == len(programs)
    assert not best & set(programs)
    # 15 programs differ in a step; ten of step 9 are among the best already
    assert [sum(a.step == step for a in found) for step in (9, 19)] == [5, 15]


def test_the_draw_is_of_the_runs_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = [[a.id for a in selected("A", "B", monkeypatch, seed)] for seed in (0, 0, 1)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A device on which the three times of a mode are 900, 1000 and 1100 us."""
    modes: list[str] = []

    def try_out(self: Kernel, answer: str, *, mode: str, processes: int) -> Trial:
        assert processes == 3
        us = 900.0 + 100.0 * modes.count(mode)
        modes.append(mode)
        valid = Verdict(outcome=Outcome.VALID, value=-us, message="NVIDIA H200")
        failed = Verdict(outcome=Outcome.EXPLOIT, message="work was pending")
        execution = Execution(cause=Cause.RETURNED)
        return Trial(verdict=failed if "late" in answer else valid, execution=execution)

    monkeypatch.setattr(Kernel, "try_out", try_out)
    monkeypatch.setattr(Kernel, "require", lambda self: None)
    return modes


def test_verify_final_times_a_kernel_three_times_in_both_modes(
    timed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kernel.py").write_text("kernel")
    assert main(["verify", "trimul", str(tmp_path / "kernel.py"), "--final", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["mode"], row["score"]) for row in rows] == [
        ("strict", 1000.0),
        ("official", 1000.0),
    ]
    assert timed == ["strict"] * 3 + ["official"] * 3


def test_verify_final_fails_with_the_reason(
    timed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kernel.py").write_text("late")
    assert main(["verify", "trimul", str(tmp_path / "kernel.py"), "--final"]) == 1
    assert "work was pending" in capsys.readouterr().out


def test_a_problem_without_held_out_material_says_what_to_use_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answer.py").write_text("def run(seed, budget_s):\n    return [0.5, 0.5]")
    assert main(["verify", "erdos", str(tmp_path / "answer.py"), "--final"]) == 2
    assert "--exact" in capsys.readouterr().err
