"""The doctor: every check says what it found, a broken check is a failed one, nothing changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eurekaflow.flows import cli, hardware, machine_checks
from eurekaflow.flows.configure import Surroundings
from eurekaflow.flows.doctor import diagnose
from eurekaflow.flows.findings import Check
from eurekaflow.models.errors import PrerequisiteMissing


def here(tmp_path: Path) -> Surroundings:
    return Surroundings(home=tmp_path / "home")


def test_a_check_that_breaks_is_a_failed_check_with_the_errors_fix(tmp_path: Path) -> None:
    def no_server(here: Surroundings) -> Check:
        raise PrerequisiteMissing("no server", "install one")

    assert diagnose([no_server], here(tmp_path)) == [
        Check("no server", "fail", "no server", "install one")
    ]


def test_the_doctor_starts_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUREKA_HOME", str(tmp_path / "home"))
    code = cli.main(["doctor", "--json"])
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert {"python", "packages", "memory", "disk", "database", "sandbox", "weights"} <= set(found)
    assert code == (3 if any(c["status"] == "fail" for c in found.values()) else 0)
    assert found["weights"]["status"] == "warn"
    assert not (tmp_path / "home").exists()


def test_a_server_of_ones_own_that_does_not_answer_fails_with_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUREKA_DATABASE_URL", "postgresql://127.0.0.1:9/none")
    assert cli.main(["doctor"]) == 3
    assert "correct EUREKA_DATABASE_URL" in capsys.readouterr().out


def test_too_little_disk_fails_and_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "free_disk", lambda folder: 10**9)
    check = machine_checks.disk(here(tmp_path))
    assert check.status == "fail"
    assert "EUREKA_HOME" in check.fix


def test_a_package_of_another_version_than_tested_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("# tested\nnumpy==0.0.1\nnot-installed==1.0\n")
    monkeypatch.setattr(machine_checks, "CONSTRAINTS", constraints)
    check = machine_checks.packages(here(tmp_path))
    assert check.status == "warn"
    assert "numpy" in check.message
    assert "not-installed" not in check.message


def test_the_constraints_pin_every_requirement_exactly() -> None:
    lines = machine_checks.CONSTRAINTS.read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in pin and "+" not in pin for pin in pins)
    named = {pin.partition("==")[0].lower().replace("_", "-") for pin in pins}
    assert {"prefect", "fastapi", "torch", "sqlalchemy", "pytest", "mypy"} <= named
