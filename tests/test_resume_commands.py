"""`resume`, `fork`, `db backup` and `db restore` as a user runs them, with a tiny real model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_models import write_tiny_model

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = [
    *("--preset", "small-cpu", "--groups", "1", "--group-size", "4"),
    *("--set", "wave=4", "--set", "micro_batch=4", "--set", "max_new_tokens=8"),
    *("--set", "lora_rank=4", "--set", "window=4096", "--set", "workers=1"),
    *("--advantage", "mean_baseline"),
]


class Machine:
    """A home folder with servers of its own."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        home.chmod(0o755)
        self.home = home
        self.small = [*SMALL, "--model", str(home.parent / "model")]
        self.environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("EUREKA_", "PREFECT_"))
        } | {"EUREKA_HOME": str(home)}

    def eureka(self, *arguments: str) -> tuple[str, str]:
        """stdout and stderr of a command that must succeed."""
        command = [sys.executable, "-m", "eurekaflow.flows.cli", *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 4), done.stderr  # 4: a random model solves nothing
        return done.stdout, done.stderr

    def prefect(self) -> str:
        """The URL of the Prefect server."""
        return str(json.loads(self.eureka("db", "status", "--json")[0])["prefect"])

    def runs(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.eureka("runs", "--json")[0])
        return found


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[Machine, Machine]]:
    folder = Path(tempfile.mkdtemp(prefix="eurekaflow-resume-"))
    folder.chmod(0o755)
    made = Machine(folder / "here"), Machine(folder / "there")
    write_tiny_model(folder / "model")
    yield made
    for machine in made:
        machine.eureka("db", "stop", "--force")
    shutil.rmtree(folder, ignore_errors=True)


def test_a_run_is_lengthened_forked_backed_up_and_goes_on_elsewhere(
    machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    here, there = machines
    here.eureka("run", "erdos", "--steps", "1", *here.small)
    [run] = here.runs()
    short = str(run["run"])[:8]
    [weights] = here.home.glob("runs/*/checkpoints/00001-*/adapter_model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-3])

    told = here.eureka("resume", short, "--steps", "2")[1]
    order = ["survived: 1 steps, 4 attempts", "torn", "redone: the update is replayed", "step   1"]
    places = [told.index(text) for text in order]
    assert places == sorted(places)
    assert "same fingerprint: identical" in told
    assert "not identical" not in told

    here.eureka("db", "backup", str(tmp_path / "all"))
    made = json.loads(
        here.eureka("fork", short, "--at-step", "0", "--set", "lr=0.1", "--later", "--json")[0]
    )
    forked = here.eureka("resume")[1]  # the last unfinished one
    assert made["run"] in forked
    assert "weights of step 0 (version 1, every hash right)" in forked
    assert [(r["state"], r["steps"]) for r in here.runs()] == [("finished", 2)] * 2

    there.environment["PREFECT_API_URL"] = here.prefect()  # a second server costs time alone
    there.eureka("db", "restore", str(tmp_path / "all"))
    assert "same fingerprint: identical" in there.eureka("resume", short, "--steps", "3")[1]
    assert [(r["run"], r["steps"]) for r in there.runs()] == [(run["run"], 3)]
