"""Claims: measured again exactly, kept as rows, and checked by a script that needs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eurekaflow.flows import cli
from eurekaflow.flows.claims import export_claim
from eurekaflow.models.archive import Archive, RunRow, VerdictRow
from eurekaflow.models.errors import UsageError
from eurekaflow.models.settings import RunConfig, preset_values
from eurekaflow.verifiers import standalone_check
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import Construction
from tests.archives import expand, planned, sample, seeds

pytest_plugins = ("tests.archive_fixtures",)

ANSWERS: dict[str, Any] = {
    "erdos": np.clip(np.random.default_rng(0).uniform(0.0, 1.2, 60), 0, 1).tolist(),
    "ac1": np.random.default_rng(1).uniform(0, 1, 1200).tolist(),
    "ac2": (10 ** np.random.default_rng(2).uniform(-30, 0, 1200)).tolist(),
    "circle-packing-26": [
        [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)],
        [1 / 12 + 3e-10] * 26,
    ],
}
EVERY = pytest.mark.parametrize("name", ANSWERS)


def construction_of(name: str) -> Construction:
    found = load(name).judge(ANSWERS[name]).construction
    assert found is not None
    return found


def claim_folder(name: str, folder: Path) -> Path:
    """A folder as `eureka export --claim` writes it, without an archive."""
    problem, construction = load(name), construction_of(name)
    exact = problem.claim(construction)
    content = {"problem": name, "metric": problem.metric, "exact": str(exact), "printed": "x"}
    folder.mkdir()
    (folder / "answer.json").write_text(json.dumps(problem.answer_of(construction)))
    (folder / "claim.json").write_text(json.dumps(content))
    (folder / "check.py").write_text(Path(standalone_check.__file__).read_text())
    return folder


def checked(folder: Path) -> tuple[int, str]:
    """Exit code and output of the standalone check, in an interpreter without packages."""
    command = [sys.executable, "-I", "-S", str(folder / "check.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.stderr == ""
    return done.returncode, done.stdout


@EVERY
def test_the_standalone_check_agrees_with_the_verifier(name: str, tmp_path: Path) -> None:
    code, said = checked(claim_folder(name, tmp_path / "claim"))
    assert (code, said[:6]) == (0, "holds:")


def scale_one(answer: list[Any]) -> None:
    largest = max(range(len(answer)), key=lambda i: str(answer[i]))
    answer[largest] = [x * 1.001 for x in answer[largest]] if isinstance(
        answer[largest], list
    ) else answer[largest] * 0.99  # fmt: skip


TAMPERINGS: dict[str, Callable[[list[Any]], object]] = {
    "one value changed": scale_one,
    "one value missing": lambda answer: answer.pop(),
    "one value twice": lambda answer: answer.append(answer[0]),
    "a boolean": lambda answer: answer.__setitem__(0, True),
    "a negative value": lambda answer: answer.__setitem__(0, -1.0),
    "a string": lambda answer: answer.__setitem__(0, "1.0"),
    "NaN": lambda answer: answer.__setitem__(0, float("nan")),
    "nothing": lambda answer: answer.clear(),
}


@EVERY
@pytest.mark.parametrize("how", TAMPERINGS)
def test_the_standalone_check_refuses_a_tampered_answer(
    name: str, how: str, tmp_path: Path
) -> None:
    folder = claim_folder(name, tmp_path / "claim")
    answer = json.loads((folder / "answer.json").read_text())
    TAMPERINGS[how](answer)
    (folder / "answer.json").write_text(json.dumps(answer))
    code, said = checked(folder)
    assert code == 1
    assert said.startswith("REFUSED")


@EVERY
def test_the_standalone_check_refuses_a_claim_that_is_too_good(name: str, tmp_path: Path) -> None:
    folder = claim_folder(name, tmp_path / "claim")
    content = json.loads((folder / "claim.json").read_text())
    content["exact"] = str(Fraction(content["exact"]) * Fraction(999_999_999, 1_000_000_000))
    (folder / "claim.json").write_text(json.dumps(content))
    assert checked(folder)[0] == 1


def searched(archive: Archive, name: str, *, trust: str = "verified") -> RunRow:
    """A run of a problem whose best attempt has the problem's answer as construction."""
    problem, construction = load(name), construction_of(name)
    config = RunConfig.model_validate({**preset_values("small-cpu"), "problem": name})
    archive.add_problem(
        problem.name, problem.version, problem.direction, problem.metric,
        [vars(r) for r in problem.records], trust=trust,
    )  # fmt: skip
    run = archive.add_run(
        problem=problem.name, config=config.model_dump(mode="json"), seed=0, versions={},
        fingerprint={}, hardware={},
    )  # fmt: skip
    with archive.hold(run.id, owner="the test") as hold:
        archive.add_seeds(hold, seeds(-9.0))
        parent = archive.attempts(run.id, -1)[0].id
        sample(archive, hold, archive.plan(hold, 0, [planned(parent, size=1)]))
        row = VerdictRow(
            attempt_id=archive.attempts(run.id, 0)[0].id,
            outcome="valid",
            value=problem.judge(ANSWERS[name]).value,
            reward=1.0,
            program="pass",
            construction=construction,
        )
        archive.store_verdicts(hold, 0, [row])
    return run


@pytest.mark.services
@EVERY
def test_a_best_attempt_is_rechecked_exactly_and_kept_as_a_claim(
    name: str, archive: Archive, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    run = searched(archive, name)
    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["best", str(run.uuid), "--recheck", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    exact = load(name).claim(construction_of(name))
    assert (told["mode"], told["exact"]) == ("exact", str(exact))
    assert told["verifier_version"] == load(name).version
    assert told["score"] == float(exact)
    assert cli.main(["best", str(run.uuid), "--final", "--json"]) == 0
    _, rows = archive.query("select mode, exact, hardware->>'cpus' from claims order by claim")
    assert len(rows) == 2
    assert rows[0][:2] == ("exact", str(exact))
    assert int(rows[0][2]) >= 1
    _, ours = archive.query("select mode, trust from leaderboard where kind = 'ours'")
    assert ours == [("exact", "verified")]
    capsys.readouterr()
    folder = tmp_path / "claim"
    assert cli.main(["export", str(run.uuid), "--claim", str(folder)]) == 0
    assert checked(folder)[0] == 0
    assert cli.main(["verify", name, str(folder / "answer.json"), "--exact", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exact"] == str(exact)


@pytest.mark.services
def test_nothing_can_be_claimed_on_a_foreign_evaluators_word(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = searched(archive, "erdos", trust="foreign")
    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    with pytest.raises(UsageError, match="foreign evaluator"):
        export_claim(str(run.uuid), tmp_path / "claim")
    assert archive.query("select count(*) from claims")[1] == [(0,)]
    assert not (tmp_path / "claim").exists()


@pytest.mark.services
def test_the_leaderboard_says_how_every_record_was_measured(archive: Archive) -> None:
    searched(archive, "ac2")
    _, rows = archive.query("select role, mode from leaderboard where kind <> 'ours'")
    assert len(rows) == len(load("ac2").records)
    assert {role for role, _ in rows} == {"human", "previous AI", "TTT-Discover", "newest"}
    assert all(mode for _, mode in rows)


HELD_OUT = """
from eurekaflow.verifiers.erdos import Erdos
from eurekaflow.verifiers.problem import InvalidAnswer, Remeasurement

class Overfitted(Erdos):
    name = "overfitted"
    finalists = 3

    def remeasure(self, program, *, spec, sandbox, judge):
        if program == "fails":
            raise InvalidAnswer("it fails on held-out inputs")
        return [Remeasurement(mode="held-out", value=-float(program), message="150 fresh seeds")]
"""


@pytest.mark.services
def test_the_final_selection_uses_the_runs_own_sandbox_and_refuses_below_its_layers(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "overfitted.py"
    file.write_text(HELD_OUT)
    archive.add_problem("overfitted", "1", "min", "C5")
    config = RunConfig.model_validate(
        {**preset_values("small-cpu"), "problem": str(file), "sandbox_layers": "warp-drive"}
    )
    run = archive.add_run(
        problem="overfitted", config=config.model_dump(mode="json"), seed=0, versions={},
        fingerprint={}, hardware={},
    )  # fmt: skip
    with archive.hold(run.id, owner="the test") as hold:
        archive.add_seeds(hold, seeds(-9.0))
        parent = archive.attempts(run.id, -1)[0].id
        expand(archive, hold, 0, [(parent, [(-0.1, "0.7")])])
    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    assert cli.main(["best", str(run.uuid), "--final"]) != 0
    assert "not the required warp-drive" in capsys.readouterr().err


@pytest.mark.services
def test_the_final_selection_orders_the_finalists_by_what_is_held_out(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "overfitted.py"
    file.write_text(HELD_OUT)
    archive.add_problem("overfitted", "1", "min", "C5")
    config = RunConfig.model_validate({**preset_values("small-cpu"), "problem": str(file)})
    run = archive.add_run(
        problem="overfitted", config=config.model_dump(mode="json"), seed=0, versions={},
        fingerprint={}, hardware={},
    )  # fmt: skip
    with archive.hold(run.id, owner="the test") as hold:
        archive.add_seeds(hold, seeds(-9.0))
        parent = archive.attempts(run.id, -1)[0].id
        expand(archive, hold, 0, [(parent, [
            (-0.1, "fails"), (-0.2, "0.7"), (-0.3, "0.6"), (-0.4, "0.5"), None])])  # fmt: skip
    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    assert cli.main(["best", str(run.uuid), "--final", "--json"]) == 0
    told = capsys.readouterr()
    rows = json.loads(told.out)
    assert [(row["score"], row["archived_score"]) for row in rows] == [(0.6, 0.3), (0.7, 0.2)]
    assert {row["mode"] for row in rows} == {"held-out"}
    assert "fails on held-out inputs" in told.err
    assert archive.query("select count(*) from claims")[1] == [(2,)]
