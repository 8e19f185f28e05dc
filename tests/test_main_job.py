"""The main job as a user runs it: the command, the real policy, Prefect, Postgres, the sandbox."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.services, pytest.mark.policy, pytest.mark.slow]

SMALL = [
    *("--preset", "small-cpu", "--groups", "1", "--group-size", "4", "--seed", "3"),
    *("--set", "wave=4", "--set", "micro_batch=4", "--set", "max_new_tokens=24"),
    *("--set", "kl=0", "--set", "threads=1"),  # other tests run beside this
]


class Installation:
    """A home folder of its own, with the policy of the user's cache."""

    def __init__(self, home: Path, policy: Path) -> None:
        home.mkdir()
        (home / "models").symlink_to(policy.parent.parent)
        self.environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("EUREKA_", "PREFECT_"))
        } | {"EUREKA_HOME": str(home)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "eurekaflow.flows.cli", *arguments]
        return subprocess.Popen(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def eureka(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=560)
        assert process.returncode == code, err
        return out, err

    def sql(self, statement: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.eureka("sql", "--json", statement)[0])
        return rows


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, bundled_policy_folder: Path
) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("main") / "home", bundled_policy_folder)
    yield made
    made.start("db", "stop", "--force").wait(60)


@pytest.fixture(scope="module")
def killed_run(installation: Installation) -> str:
    """A run of two steps whose process was killed in its second step, then resumed to its end."""
    process = installation.start("run", "erdos", "--steps", "2", *SMALL)
    assert process.stderr is not None
    first = next(line for line in process.stderr if line.startswith("run "))
    for line in process.stderr:
        if line.startswith("step"):
            break
    time.sleep(3)  # somewhere in the second step
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    installation.eureka("resume")
    return first.split()[1]


@pytest.mark.timeout(900)
def test_a_killed_discovery_is_resumed_to_its_end_without_a_lost_attempt(
    installation: Installation, killed_run: str
) -> None:
    [row] = installation.sql(
        "select count(*) n, count(distinct (step, group_index, attempt_index)) places,"
        f" count(outcome) verdicts from attempts where step >= 0 and run = '{killed_run}'"
    )
    assert row == {"n": 8, "places": 8, "verdicts": 8}
    [state] = installation.sql(f"select state from runs where run = '{killed_run}'")
    assert state == {"state": "finished"}


def test_the_public_views_answer_after_a_run(installation: Installation, killed_run: str) -> None:
    [best] = installation.sql("select count(*) n, max(step) s, max(value) v from best_attempts")
    assert best["n"] >= 1
    assert -0.5 < best["v"] < -0.379005
    outcomes = installation.sql("select outcome, count(*) n from attempts group by 1")
    assert {"seed", "valid"} <= {row["outcome"] for row in outcomes}


def test_the_best_program_of_a_run_is_printed_and_scores_what_the_archive_says(
    installation: Installation, killed_run: str, tmp_path: Path
) -> None:
    answer = tmp_path / "best.json"
    installation.eureka("best", killed_run, "--out", str(answer))
    checked = json.loads(
        installation.eureka("verify", "erdos", str(answer), "--exact", "--json")[0]
    )
    [best] = installation.sql("select max(value) v from best_attempts")
    assert checked["valid"]
    assert checked["value"] == pytest.approx(best["v"], abs=1e-9)


def test_prefect_has_recorded_the_flow_and_its_six_stages(
    installation: Installation, killed_run: str
) -> None:
    url = json.loads(installation.eureka("db", "status", "--json")[0])["prefect"]
    request = urllib.request.Request(
        f"{url}/task_runs/filter", data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        names = {row["name"].split()[0] for row in json.load(reply)}
    assert {"seed", "plan", "sample", "verify", "archive", "update", "checkpoint"} <= names
