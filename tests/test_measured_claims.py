"""Claims without a construction: a matrix comes from a new run, a query is timed anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eurekaflow.flows import cli
from eurekaflow.models.archive import Archive, RunRow
from eurekaflow.models.settings import RunConfig, preset_values
from eurekaflow.verifiers import denoising_texts
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.sql_query import SqlQuery
from tests.archives import expand, seeds

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = [pytest.mark.services, pytest.mark.slow]


def searched(archive: Archive, name: str, program: str) -> RunRow:
    """A run whose best attempt is the program."""
    problem = load(name)
    archive.add_problem(problem.name, problem.version, problem.direction, problem.metric)
    values = {**preset_values("small-cpu"), "problem": name, "budget_s": 20.0}
    config = RunConfig.model_validate(values)
    run = archive.add_run(
        problem=problem.name, config=config.model_dump(mode="json"), seed=0, versions={},
        fingerprint={}, hardware={},
    )  # fmt: skip
    with archive.hold(run.id, owner="the test") as hold:
        archive.add_seeds(hold, seeds(-9000.0))
        parent = archive.attempts(run.id, -1)[0].id
        expand(archive, hold, 0, [(parent, [(-0.1, program), None])])
    return run


@pytest.mark.parametrize(
    ("name", "program", "modes"),
    [
        ("denoising", denoising_texts.EXAMPLE, ["official", "official", "strict", "strict"]),
        ("sql-query", SqlQuery.query, ["strict"]),
    ],
)
def test_the_best_program_is_measured_again_and_claimed(
    name: str, program: str, modes: list[str], archive: Archive, open_home: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = searched(archive, name, program)
    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    monkeypatch.setenv("EUREKA_HOME", str(open_home))
    assert cli.main(["best", str(run.uuid), "--recheck", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "strict"
    assert cli.main(["best", str(run.uuid), "--final", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert sorted(row["mode"] for row in rows) == modes
    assert archive.query("select count(*) from claims")[1] == [(1 + len(modes),)]
