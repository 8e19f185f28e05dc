"""A problem of one's own: the written file, the check, the entry point of an installed package."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from eurekaflow.flows import cli

HEAD = """
import time
import numpy as np
from eurekaflow.verifiers.problem import InvalidAnswer, Judgement, Problem, Seed

class Mine(Problem):
    name = "mine"

    def statement(self, *, brief=False):
        return "Return a list of numbers whose mean is large. " * 5

    def seeds(self, rng, count, *, brief=False):
        return [Seed(value=0.0, construction=rng.uniform(0, 1, 5)) for _ in range(count)]
"""
CARELESS = (
    HEAD
    + """
    def judge(self, answer, *, exact=False):
        return Judgement(value=float(bool(answer)))
"""
)
NOISY = (
    HEAD
    + """
    def judge(self, answer, *, exact=False):
        values = [float(x) for x in answer]
        return Judgement(value=sum(values) + np.random.default_rng().normal())
"""
)
UNSEEDED = (
    HEAD.replace("rng.uniform", "np.random.uniform")
    + """
    def judge(self, answer, *, exact=False):
        raise InvalidAnswer("no")
"""
)


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EUREKA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def checked(capsys: pytest.CaptureFixture[str], text: str) -> dict[str, str]:
    """Status of every finding on a problem file."""
    file = Path(f"mine_{zlib.crc32(text.encode())}.py")  # loading remembers paths
    file.write_text(text)
    code = cli.main(["problem", "check", str(file), "--json"])
    found = {f["name"]: f for f in json.loads(capsys.readouterr().out)}
    assert code == any(f["status"] == "fail" for f in found.values())
    assert all(f["fix"] for f in found.values() if f["status"] != "pass")
    return {name: f["status"] for name, f in found.items()}


def test_the_written_problem_passes_its_own_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["problem", "new", "mine.py"]) == 0
    assert set(checked(capsys, Path("mine.py").read_text()).values()) == {"pass"}


def test_a_file_that_is_there_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text("precious")
    assert cli.main(["problem", "new", "mine.py"]) == 2
    assert cli.main(["problem", "new", "mine.txt"]) == 2
    assert Path("mine.py").read_text() == "precious"
    assert "--force" in capsys.readouterr().err


def test_a_verifier_that_accepts_everything_is_found_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = checked(capsys, CARELESS)
    assert found["rejects no answer"] == "fail"
    assert found["distinct values"] == "warn"  # pass or fail is no landscape


def test_a_verifier_that_draws_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    found = checked(capsys, NOISY)
    assert found["deterministic"] == "fail"  # it declares no noise
    assert found["signal over noise"] == "warn"
    assert found["rejects no answer"] == "fail"  # an empty list has a sum


def test_seeds_that_do_not_follow_the_generator_are_found_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert checked(capsys, UNSEEDED)["seeds"] == "fail"


@pytest.mark.slow
def test_a_problem_of_an_installed_package_is_found_by_name(tmp_path: Path) -> None:
    assert cli.main(["problem", "new", "far_points_problem.py"]) == 0
    Path("pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "far-points"\nversion = "1"\n'
        '[project.entry-points."eurekaflow.problems"]\n'
        'far-points = "far_points_problem:FarPoints"\n'
        '[tool.setuptools]\npy-modules = ["far_points_problem"]\n'
    )
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
               "--no-index", "--target", str(site), "."]  # fmt: skip
    subprocess.run(install, check=True, capture_output=True)
    Path("far_points_problem.py").unlink()
    code = (
        f"import sys; sys.path.append({str(site)!r})\n"
        "from eurekaflow.flows import cli\n"
        "sys.exit(cli.main(['problems', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "far-points" in {problem["name"] for problem in json.loads(done.stdout)}
