"""The commands that look at runs, against a real archive with a small finished run in it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from eurekaflow.flows import cli
from eurekaflow.models.archive import Archive, Hold, RunRow
from tests.archives import expand, new_run, seeds

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = pytest.mark.services


@pytest.fixture
def searched(archive: Archive, hold: Hold, run: RunRow, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run with a seed and two steps; best score 0.6 in step 1. The commands look at it."""
    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    archive.add_seeds(hold, seeds(-0.9))
    seed = int(archive.nodes(run.id).ids[0])
    first = expand(archive, hold, 0, [(seed, [-0.8, None, -0.7, None])])
    archive.commit_step(hold, 0)
    expand(archive, hold, 1, [(first[0][2], [(-0.6, "print('the best')"), None])])
    archive.commit_step(hold, 1)
    return str(run.uuid)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that succeeds prints on stdout."""
    previous = signal.getsignal(signal.SIGTERM)
    code = cli.main(arguments)
    signal.signal(signal.SIGTERM, previous)
    told = capsys.readouterr()
    assert (code, told.err) == (0, "")
    return told.out


def test_runs_lists_what_each_run_reached(
    searched: str, archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    new_run(archive)
    newest, older = json.loads(printed(capsys, "runs", "--json"))
    assert (newest["state"], newest["best"], newest["valid"]) == ("created", None, 0)
    assert older["run"] == searched
    assert (older["steps"], older["attempts"], older["valid"]) == (2, 6, 3)
    assert (older["best"], older["record"]) == (0.6, 0.5)
    assert len(json.loads(printed(capsys, "runs", "--limit", "1", "--json"))) == 1
    assert searched[:8] in printed(capsys, "runs")


def test_show_tells_the_run_and_its_steps(
    searched: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(printed(capsys, "show", searched[:10], "--json"))
    assert (found["best"], found["best_seed"], found["seed"]) == (0.6, 0.9, 7)
    steps = found["progress"]
    assert [step["best_score"] for step in steps] == [0.7, 0.6]
    assert [(step["valid"], step["verified"]) for step in steps] == [(2, 4), (1, 2)]
    assert "committed" in printed(capsys, "show")


def test_best_prints_the_program_alone(searched: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "best", "last", "--program") == "print('the best')\n"
    found = json.loads(printed(capsys, "best", "--json"))
    assert (found["score"], found["step"], found["record"]) == (0.6, 1, 0.5)
    assert "the best" in printed(capsys, "best", searched)


def test_best_writes_the_program_to_a_file(searched: str, tmp_path: Path) -> None:
    assert cli.main(["best", "--out", str(tmp_path / "best.py")]) == 0
    text = (tmp_path / "best.py").read_text()
    assert text.endswith("\n\nprint('the best')\n")
    assert f"# run: {searched}\n" in text


def test_best_of_a_run_without_a_valid_attempt_exits_with_2(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    new_run(archive)
    assert cli.main(["best"]) == 2
    assert "no valid attempt" in capsys.readouterr().err


def test_tree_is_in_the_order_of_choice(searched: str, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = json.loads(printed(capsys, "tree", "--json"))
    assert [node["rank"] for node in nodes] == list(range(1, len(nodes) + 1))
    assert [node["puct"] for node in nodes] == sorted((n["puct"] for n in nodes), reverse=True)
    assert {node["score"] for node in nodes} == {0.9, 0.8, 0.7, 0.6}
    assert "puct" in printed(capsys, "tree", "--limit", "2")


def test_sql_prints_tables_json_and_csv(searched: str, capsys: pytest.CaptureFixture[str]) -> None:
    query = "select outcome, count(*) as n from attempts group by 1 order by 1"
    expected = [
        {"outcome": "raised", "n": 3},
        {"outcome": "seed", "n": 1},
        {"outcome": "valid", "n": 3},
    ]
    assert json.loads(printed(capsys, "sql", query, "--json")) == expected
    assert printed(capsys, "sql", query, "--csv") == "outcome,n\nraised,3\nseed,1\nvalid,3\n"
    assert "raised" in printed(capsys, "sql", query)


@pytest.mark.parametrize("statement", ["delete from archive.runs", "selec 1", "select * from x"])
def test_sql_that_writes_or_is_wrong_exits_with_2_and_changes_nothing(
    searched: str, archive: Archive, capsys: pytest.CaptureFixture[str], statement: str
) -> None:
    assert cli.main(["sql", statement]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert len(archive.runs()) == 1


def test_a_reference_to_several_or_no_runs_is_refused(
    searched: str, archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["show", "zzz"]) == 2
    assert "no run is called" in capsys.readouterr().err
    assert cli.main(["show", "%"]) == 2


def test_an_unreachable_server_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUREKA_DATABASE_URL", "postgresql://127.0.0.1:9/none")
    assert cli.main(["runs"]) == 3
    told = capsys.readouterr().err
    assert "did not answer" in told
    assert "Traceback" not in told


def test_size_and_rebuild_work_on_a_server_of_ones_own(
    searched: str, hold: Hold, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = json.loads(printed(capsys, "db", "size", "--json"))
    assert "attempts" in {row["table"] for row in sizes["tables"]}
    assert sizes["bytes_per_attempt"] > 0
    (run,) = sizes["runs"]
    assert (run["run"], run["attempts_per_step"]) == (searched, 2)
    hold.release("paused")
    assert cli.main(["db", "rebuild", "last"]) == 0
    assert "0 differences" in capsys.readouterr().err


def test_a_server_of_ones_own_is_not_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUREKA_DATABASE_URL", "postgresql://127.0.0.1:9/none")
    assert cli.main(["db", "stop"]) == 2
    assert "not ours to stop" in capsys.readouterr().err
