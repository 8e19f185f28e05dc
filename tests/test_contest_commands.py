"""Contests by hand and in claims: which cases are run, and what a score is compared with."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurekaflow.flows import cli, report
from eurekaflow.models.archive import Archive, RunRow
from eurekaflow.models.settings import RunConfig, preset_values
from eurekaflow.verifiers.contest import Contest
from eurekaflow.verifiers.lookup import load
from tests.archives import expand, planned, sample, seeds, settle, verdict

pytest_plugins = ("tests.archive_fixtures",)

NET = """\
#include <cstdio>
int main() { std::puts("4\\n0 0\\n100000 0\\n100000 100000\\n0 100000"); }
"""


def verified(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert cli.main(["verify", *arguments, "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.cpp"
    path.write_text(NET)
    return str(path)


@pytest.mark.slow
def test_the_official_mode_of_ahc039_runs_the_private_seeds(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = verified(capsys, "ahc039", program, "--official", "--cases", "2")
    assert (told["mode"], told["metric"]) == ("official", "sum over 2 official cases")
    assert told["score"] == told["value"] * 2 == told["metrics"]["sum"]
    assert told["records"] == []  # two cases are not all of them


@pytest.mark.slow
def test_a_local_score_is_a_sum_of_its_cases_and_compared_with_nothing(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = verified(capsys, "ahc039", program, "--cases", "3")
    assert (told["mode"], told["metric"]) == ("local cases", "sum over 3 local cases")
    assert told["score"] == 3.0  # the net around everything: one a case
    assert told["metrics"]["cases"] == 3
    assert told["records"] == []


@pytest.mark.slow
def test_the_exact_mode_of_a_contest_says_that_it_always_is(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = verified(capsys, "ahc039", program, "--cases", "1", "--exact")
    assert told["mode"] == "exact"
    assert "exact in every mode" in told["message"]


@pytest.mark.slow
def test_the_net_of_the_first_case_is_drawn(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "net.svg"
    verified(capsys, "ahc039", program, "--cases", "1", "--picture", str(picture))
    assert len(ET.fromstring(picture.read_text()).findall("{*}polygon")) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ahc058", "--official"), "official seeds of ahc058 are not public"),
        (("ahc039", "--cases", "500"), "--cases is 500"),
        (("ahc039", "--cases", "0"), "--cases is 0"),
        (("erdos", "--cases", "3"), "--cases is for contests"),
    ],
)
def test_cases_that_cannot_be_run_are_a_usage_error(
    arguments: tuple[str, ...], said: str, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *flags = arguments
    assert cli.main(["verify", name, program, *flags]) == 2
    assert said in capsys.readouterr().err


def test_only_all_official_cases_are_compared_with_the_records() -> None:
    contest = load("ahc039")
    assert isinstance(contest, Contest)
    official, some = contest.held_out_cases(), contest.held_out_cases(149)
    assert official.record() is not None
    assert contest.record() is contest.with_cases(3).record() is some.record() is None
    assert contest.with_cases(3).score(1000.0) == 3000.0
    assert contest.with_cases(3).target == 15_000.0


def searched(archive: Archive, name: str, program: str) -> RunRow:
    """A run on three cases whose best attempt is the program."""
    problem = load(name)
    records = [vars(r) for r in problem.records]
    archive.add_problem(problem.name, problem.version, problem.direction, problem.metric, records)
    values = {**preset_values("small-cpu"), "problem": name, "cases": 3}
    config = RunConfig.model_validate(values)
    run = archive.add_run(
        problem=problem.name, config=config.model_dump(mode="json"), seed=0, versions={},
        fingerprint={}, hardware={},
    )  # fmt: skip
    with archive.hold(run.id, owner="the test") as hold:
        archive.add_seeds(hold, seeds(-1.0))
        parent = archive.attempts(run.id, -1)[0].id
        expand(archive, hold, 0, [(parent, [(1.0, program), None])])
    return run


@pytest.mark.slow
@pytest.mark.services
def test_a_contest_program_is_rechecked_measured_on_held_out_cases_and_exported(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = searched(archive, "ahc039", NET)
    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    monkeypatch.setattr(Contest, "final_cases", lambda *_: (7, 8))
    assert cli.main(["best", str(run.uuid), "--recheck", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["mode"], told["value"], told["score"]) == ("exact", 1.0, 3.0)
    assert "3 local cases" in told["message"]
    assert cli.main(["best", str(run.uuid), "--final", "--json"]) == 0
    (final,) = json.loads(capsys.readouterr().out)
    assert (final["mode"], final["value"], final["score"]) == ("held-out", 1.0, 2.0)
    assert archive.query("select count(*) from claims")[1] == [(2,)]
    folder = tmp_path / "claim"
    assert cli.main(["export", str(run.uuid), "--claim", str(folder), "--json"]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert (exported["value"], exported["score"], exported["cases"]) == (1.0, 3.0, 3)
    assert exported["metric"] == "sum over 3 local cases"
    file = str(folder / exported["file"])
    assert verified(capsys, "ahc039", file, "--cases", "3")["score"] == exported["score"]


@pytest.mark.services
def test_programs_with_the_same_net_are_two_nodes_and_the_report_draws_it(
    archive: Archive,
) -> None:
    """A polygon on one case is no state to build on; the program is."""
    run = searched(archive, "ahc039", NET)
    square = np.array([[0, 0], [50_000, 0], [50_000, 70_000], [0, 70_000]], dtype=np.float64)
    with archive.hold(run.id, owner="the test") as hold:
        parent = archive.attempts(run.id, -1)[0].id
        sample(archive, hold, archive.plan(hold, 1, [planned(parent, size=2)]))
        same_by = load("ahc039").same_by
        found = [verdict(row.id, 5.0) for row in archive.attempts(run.id, 1)]
        nets = [replace(v, construction=square, same_by=same_by) for v in found]
        archive.store_verdicts(hold, 1, nets)
        settle(archive, hold, 1)
    assert len(archive.nodes(run.id).ids) == 3  # the seed and these two, the best of its children
    page = report.of_run(archive.url, str(run.uuid)).html()
    assert '<polygon points="0,100000 50000,100000 50000,30000 0,30000"' in page


@pytest.mark.services
def test_the_leaderboard_calls_a_contests_run_local_and_gives_it_no_rank(
    archive: Archive,
) -> None:
    searched(archive, "ahc039", NET)
    _, ours = archive.query("select score, mode, rank from leaderboard where kind = 'ours'")
    assert ours == [(3.0, "3 local cases", None)]
    _, first = archive.query("select holder from leaderboard where rank = 1")
    assert first == [("TTT-Discover",)]
    assert archive.query("select best_score from runs")[1] == [(3.0,)]


RESERVES = """\
#include <cstdio>
#include <cstdlib>
int main() {
    char *all = static_cast<char *>(aligned_alloc(4096, 1200UL << 20));
    if (!all) return 3;
    for (size_t i = 0; i < (TOUCHED << 20); i += 4096) all[i] = 1;
    std::puts("4\\n0 0\\n100000 0\\n100000 100000\\n0 100000");
}
"""


@pytest.mark.slow
def test_memory_that_is_reserved_and_not_touched_does_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "reserves.cpp"
    file.write_text(RESERVES.replace("TOUCHED", "16UL"))
    assert verified(capsys, "ahc039", str(file), "--cases", "1")["score"] == 1.0
    file.write_text(RESERVES.replace("TOUCHED", "1150UL"))
    assert cli.main(["verify", "ahc039", str(file), "--cases", "1", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["outcome"] == "memory"
