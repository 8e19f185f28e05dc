"""`eureka verify` on files that hold no answer, and on the data that scores belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurekaflow.flows import cli
from eurekaflow.flows.data_options import DataOptions, with_data
from eurekaflow.flows.verdict_report import distances
from eurekaflow.models.errors import UsageError
from eurekaflow.verifiers import denoising_texts
from eurekaflow.verifiers.denoising import Denoising
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import Record

KEYS = {"valid", "score", "value", "mode", "message"}


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told.keys() >= KEYS
    return told


@pytest.mark.parametrize("mode", [(), ("--exact",)])
def test_a_file_that_is_no_text_is_an_invalid_answer_in_json(
    mode: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "h.json").write_bytes(b"[0.5, \xff]")
    assert cli.main(["verify", "erdos", str(tmp_path / "h.json"), *mode, "--json"]) == 1
    told = report(capsys)
    assert (told["valid"], told["score"], told["value"]) == (False, None, None)
    assert "UTF-8" in told["message"]


def test_a_file_that_is_too_large_is_an_invalid_answer_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "h.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert cli.main(["verify", "erdos", str(tmp_path / "h.json"), "--json"]) == 1
    told = report(capsys)
    assert (told["valid"], told["value"]) == (False, None)
    assert "64 MiB" in told["message"]


def test_a_missing_file_is_a_usage_error_that_json_tells_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["verify", "erdos", str(tmp_path / "none.json"), "--json"]) == 2
    told = report(capsys)
    assert (told["valid"], told["score"]) == (False, None)
    assert "cannot be read" in told["message"]


def test_a_byte_order_mark_is_no_part_of_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "h.json").write_bytes(b"\xef\xbb\xbf[0.5, 0.5, 0.5, 0.5]")
    assert cli.main(["verify", "erdos", str(tmp_path / "h.json"), "--json"]) == 0
    assert report(capsys)["score"] == 0.5


def test_a_score_on_bundled_cells_is_compared_with_no_published_one() -> None:
    problem = load("denoising")
    for mode in problem.modes:
        assert distances(problem, 0.5, mode=mode) == []


def test_a_score_on_published_cells_is_compared_with_theirs_outside_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eurekaflow.verifiers.denoising.official_name", lambda *_: "pbmc")
    monkeypatch.setattr(Denoising, "benchmark", None)
    problem = Denoising().configured({"h5ad": "any.h5ad"})
    assert distances(problem, 0.5, mode="training") == []
    found = distances(problem, 0.5, mode="official")
    assert found
    assert all(distance.holder.endswith("PBMC") for distance in found)
    best = problem.record()
    assert isinstance(best, Record)
    assert best.score == 0.71
    assert problem.record(mode="training") is None  # a run's own values are no such scores


def test_the_official_mode_of_denoising_is_that_of_split_0() -> None:
    assert with_data("denoising", None, official=True) == "denoising?split=0"
    assert with_data("denoising?split=7", None, official=True) == "denoising?split=7"
    assert with_data("denoising", None) == "denoising"
    assert with_data("erdos", None, official=True) == "erdos"


@pytest.mark.slow
def test_the_official_score_by_hand_is_that_of_split_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d.py").write_text(denoising_texts.NO_DENOISING)
    assert cli.main(["verify", "denoising", str(tmp_path / "d.py"), "--official", "--json"]) == 0
    told = report(capsys)
    none = load("denoising?split=0").benchmark.none  # type: ignore[attr-defined]
    assert told["metrics"]["raw_mse"] == pytest.approx(none.mse)


def test_options_of_a_spec_and_flags_for_a_users_file_go_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eurekaflow.flows.data_options._described", lambda spec: [])
    mine, others = Path("/a/mine.h5ad"), [Path("/a/pbmc.h5ad"), Path("/a/tabula.h5ad")]
    problem = load(with_data("denoising?split=0", DataOptions(h5ad=mine, held_out=others)))
    assert isinstance(problem, Denoising)
    assert problem.split_seed == 0
    specs = problem.held_out()
    assert len(specs) == 3
    assert ["mine" in specs[0], "pbmc" in specs[1], "tabula" in specs[2]] == [True] * 3
    flagged = load(with_data("denoising?split=7", DataOptions(h5ad=mine, split=3)))
    assert isinstance(flagged, Denoising)
    assert flagged.split_seed == 3


@pytest.mark.parametrize(
    ("problem", "options"),
    [("erdos", DataOptions(split=1)), ("denoising", DataOptions(layer="counts"))],
)
def test_a_data_flag_without_its_problem_or_file_is_named(
    problem: str, options: DataOptions
) -> None:
    with pytest.raises(UsageError, match="needs the problem denoising"):
        with_data(problem, options)


def test_a_data_set_as_large_as_the_largest_official_one_may_be_held_several_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = np.broadcast_to(np.int32(0), (24_540, 16_122))  # without memory of its own
    benchmark = type("Large", (), {"train": whole})()
    monkeypatch.setattr(Denoising, "benchmark", benchmark)
    problem = Denoising().configured({"h5ad": "tabula.h5ad"})
    candidate, judge = problem.memory()
    assert problem.limits(budget_s=60.0).memory_bytes == candidate >= 16 << 30
    assert judge >= 16 << 30
    assert problem.verification_s > 30
