"""The Makefile's environment: made once, made again when it is only half there, never left so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parent.parent / "Makefile"
BASE = getattr(sys, "_base_executable", sys.executable)  # outside of any environment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(MAKEFILE, tmp_path)
    return tmp_path


def make(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "venv", f"PYTHON={python}"]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)


def script(folder: Path, text: str) -> str:
    """An interpreter that is a shell script; `real` stands for Python itself."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{text.replace('real', BASE)}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.slow
def test_an_environment_without_pip_is_made_again(folder: Path) -> None:
    subprocess.run([BASE, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    assert make(folder, BASE).returncode == 0
    pip = [folder / ".venv/bin/python", "-m", "pip", "--version"]
    assert subprocess.run(pip, check=False, capture_output=True).returncode == 0


def test_an_environment_that_runs_pip_is_left_alone(folder: Path) -> None:
    (folder / ".venv/bin").mkdir(parents=True)
    script(folder / ".venv/bin", f'exec {sys.executable} "$@"')
    assert make(folder, "/nonexistent").returncode == 0


def test_an_environment_that_could_not_be_made_is_removed(folder: Path) -> None:
    broken = script(folder, 'case "$2" in venv) mkdir -p "$3/bin"; exit 1;; esac; exec real "$@"')
    assert make(folder, broken).returncode == 2
    assert not (folder / ".venv").exists()


def test_a_missing_ensurepip_names_the_package_that_has_it(folder: Path) -> None:
    without = script(folder, 'case "$2" in *ensurepip*) exit 1;; esac; exec real "$@"')
    told = make(folder, without)
    assert told.returncode == 2
    package = "python{}.{}-venv".format(*sys.version_info[:2])
    assert f"apt-get install {package}" in told.stderr
