"""The systemd unit in docs/nightly.md: systemd takes it, and its command is one of ours."""

from __future__ import annotations

import configparser
import getpass
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from eurekaflow.flows import cli, night_commands
from eurekaflow.flows.night_service import WORKER_END_S

PAGE = Path(__file__).resolve().parent.parent / "docs/nightly.md"


@pytest.fixture(scope="module")
def text() -> str:
    """The unit as it is printed."""
    [unit] = [part.partition("```")[0] for part in PAGE.read_text().split("```ini\n")[1:]]
    return unit


@pytest.fixture(scope="module")
def unit(text: str) -> configparser.ConfigParser:
    """Its sections; a key that stands twice is refused."""
    read = configparser.ConfigParser(interpolation=None)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(text)
    return read


def test_its_command_and_options_are_those_of_the_command_line(
    unit: configparser.ConfigParser,
) -> None:
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).is_absolute()  # systemd has no PATH of ours
    assert Path(program).name == "eureka"
    command, bound, _ = cli.build().parse_args(words, exit_on_error=False, print_error=False)
    assert command is night_commands.serve
    assert not bound.args


def test_it_comes_back_after_every_end_and_stops_without_losing_a_run(
    unit: configparser.ConfigParser,
) -> None:
    """The service itself ends what the worker runs, so systemd must ask nobody else to end."""
    service = unit["Service"]
    assert service["Restart"] == "always"
    assert service["KillMode"] == "process"
    assert float(service["TimeoutStopSec"]) >= 2 * WORKER_END_S  # the runs, then the worker
    assert service["User"] == "YOU"
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_what_it_needs_of_the_environment_is_said_and_none_is_in_it(
    text: str, unit: configparser.ConfigParser
) -> None:
    assert not [key for key in unit["Service"] if key.startswith("Environment")]
    after = PAGE.read_text().partition(text)[2][:1000]
    assert "`Environment=NAME=value`" in after
    for name in ("EUREKA_", "CUDA_VISIBLE_DEVICES", "PREFECT_API_URL"):
        assert name in after


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_finds_nothing_wrong_with_it(text: str, tmp_path: Path) -> None:
    def verified(unit: str) -> str:
        program = tmp_path / "eureka"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        file = tmp_path / "eureka-nightly.service"
        whole = unit.replace("/path/to/.venv/bin/eureka", str(program))
        file.write_text(whole.replace("YOU", getpass.getuser()))
        command = ["systemd-analyze", "verify", "--man=no", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        said = done.stdout + done.stderr
        return "\n".join(line for line in said.splitlines() if "eureka-nightly" in line)

    assert verified(text) == ""
    assert "Restrat" in verified(text.replace("Restart=", "Restrat="))
