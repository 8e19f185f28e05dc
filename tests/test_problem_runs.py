"""Three steps on each problem with the bundled policy, small: no infrastructure error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eurekaflow.models.states import OUTCOMES

pytestmark = [pytest.mark.services, pytest.mark.policy, pytest.mark.slow]

PROBLEMS = (
    "erdos", "ac1", "ac2", "circle-packing-26", "circle-packing-32", "ahc039", "ahc058",
    "denoising", "sql-query",
)  # fmt: skip


@pytest.fixture(scope="module")
def rows(
    tmp_path_factory: pytest.TempPathFactory, bundled_policy_folder: Path
) -> Iterator[dict[str, dict[str, Any]]]:
    """What the archive holds of one run of each problem, made by the command in one process."""
    home = tmp_path_factory.mktemp("problems") / "home"
    home.mkdir()
    (home / "models").symlink_to(bundled_policy_folder.parent.parent)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EUREKA_", "PREFECT_"))}
    environment = kept | {"EUREKA_HOME": str(home)}
    out = home / "rows.json"
    try:
        subprocess.run(
            [sys.executable, "-m", "tests.problem_runs", str(out), *PROBLEMS],
            env=environment, check=True, timeout=1200, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        yield {row["problem"]: row for row in json.loads(out.read_text())}
    finally:
        stop = [sys.executable, "-m", "eurekaflow.flows.cli", "db", "stop", "--force"]
        subprocess.run(stop, env=environment, check=False, timeout=60)


@pytest.mark.timeout(1300)
@pytest.mark.parametrize("name", PROBLEMS)
def test_three_steps_end_without_an_infrastructure_error(
    name: str, rows: dict[str, dict[str, Any]]
) -> None:
    row = rows[name]
    assert (row["state"], row["committed"], row["judged"]) == ("finished", 3, 12), row
    assert set(row["outcomes"]) <= set(OUTCOMES) - {"lost"}, row
    assert row["code"] == 0 or row["valid"] == 0, row  # a run without a valid attempt says so
