"""Verifiers that are executables: trusted, given what the user declares and nothing else."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eurekaflow.flows import cli
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import Outcome, ProblemUnusable, Verdict

DECLARATION = """
name = "long-words"
statement = "Write a line of long words."
answer = "text"
metric = "mean length"
initial = "start.txt"
direction = "{direction}"
[verifier]
command = ["./verify.py"]
{more}
"""
# The executable of the tests: counts, and does whatever the answer's first word asks for.
VERIFY = """#!/usr/bin/env python3
import json, os, socket, sys, time
words = open(sys.argv[1]).read().split()
said = {"value": sum(map(len, words)) / len(words), "words": len(words)}
if words[0] == "invalid":
    said |= {"valid": False, "message": "not that word"}
if words[0] == "endless":
    time.sleep(60)
if words[0] == "crash":
    sys.exit("it broke")
if words[0] == "prose":
    print("here it comes:")
if words[0] == "nan":
    said["value"] = float("nan")
if words[0] == "facts":
    links = [name for _, name in socket.if_nameindex()]
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        try:
            socket.create_connection(listening.getsockname(), timeout=2).close()
            network = True
        except OSError:
            network = False
    said |= {"valid": False, "message": json.dumps(
        {"network": network, "variables": sorted(os.environ), "argument": sys.argv[1],
         "licence": os.environ.get("LICENCE")})}
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(1) as opened:
        yield opened


def declared(folder: Path, *, direction: str = "max", more: str = "") -> str:
    """A problem of one executable in the folder; its path."""
    (folder / "start.txt").write_text("two words")
    verify = folder / "verify.py"
    verify.write_text(VERIFY)
    verify.chmod(verify.stat().st_mode | stat.S_IXUSR)
    (folder / "problem.toml").write_text(DECLARATION.format(direction=direction, more=more))
    return str(folder)


def judged(judge: Judge, spec: str, text: str) -> Verdict:
    return judge.verdict_of_text(spec, text)


def test_the_value_is_what_it_prints_and_numbers_are_metrics(judge: Judge, tmp_path: Path) -> None:
    verdict = judged(judge, declared(tmp_path), "longer words")
    assert (verdict.outcome, verdict.value) == (Outcome.VALID, 5.5)
    assert verdict.metrics == {"words": 2.0}


def test_smaller_is_better_where_that_is_declared(judge: Judge, tmp_path: Path) -> None:
    assert judged(judge, declared(tmp_path, direction="min"), "longer words").value == -5.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("invalid words", "not that word"),
        ("crash", "ended with status 1: it broke"),
        ("prose", "printed no JSON object"),
        ("nan", "NaN"),
    ],
)
def test_what_it_refuses_or_trips_over_is_invalid(
    text: str, message: str, judge: Judge, tmp_path: Path
) -> None:
    verdict = judged(judge, declared(tmp_path), text)
    assert verdict.outcome is Outcome.INVALID
    assert message in verdict.message


def test_one_that_does_not_end_is_ended(judge: Judge, tmp_path: Path) -> None:
    verdict = judged(judge, declared(tmp_path, more="timeout_s = 1"), "endless")
    assert verdict.outcome is Outcome.INVALID
    assert "exceeded 1 s" in verdict.message


def facts(judge: Judge, spec: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(judged(judge, spec, "facts").message)
    return found


def test_it_has_neither_network_nor_variables_by_itself(
    judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LICENCE", "not for anybody")
    found = facts(judge, declared(tmp_path))
    assert not found["network"]
    assert found["licence"] is None
    assert {"HOME", "LANG", "PATH"} >= set(found["variables"]) - {"LC_CTYPE", "PWD", "_", "SHLVL"}


def test_it_has_the_network_and_the_licence_that_are_declared(
    judge: Judge, tmp_path: Path
) -> None:
    more = 'network = true\nenvironment = { LICENCE = "27000@here" }'
    found = facts(judge, declared(tmp_path, more=more))
    assert found["network"]
    assert found["licence"] == "27000@here"
    assert not Path(found["argument"]).exists()


def test_the_start_is_what_it_says_of_the_initial_answer(tmp_path: Path) -> None:
    import numpy as np

    problem = load(declared(tmp_path))
    (seed,) = problem.seeds(np.random.default_rng(0), 1)
    assert (seed.value, seed.program) == (4.0, "two words")
    assert (problem.trust, problem.name) == ("verified", "long-words")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('answer = "text"', "answer = 'prose'"),
        ('command = ["./verify.py"]', "verifier.command = 'x'"),
        ('initial = "start.txt"', "initial = 'absent.txt'"),
        ('name = "long-words"', "cannot be read"),
    ],
)
def test_a_wrong_declaration_names_the_field(change: str, message: str, tmp_path: Path) -> None:
    wrong = {
        'answer = "text"': 'answer = "prose"',
        'command = ["./verify.py"]': 'command = "x"',
        'initial = "start.txt"': 'initial = "absent.txt"',
        'name = "long-words"': "name = long words",
    }
    declared(tmp_path)
    file = tmp_path / "problem.toml"
    file.write_text(file.read_text().replace(change, wrong[change]))
    with pytest.raises(ProblemUnusable, match=message):
        load(str(file))


def test_an_executable_that_is_not_there_is_refused_before_a_run(tmp_path: Path) -> None:
    declared(tmp_path)
    (tmp_path / "verify.py").unlink()
    with pytest.raises(ProblemUnusable, match=r"verify\.py"):
        load(str(tmp_path / "problem.toml")).prove()


@pytest.mark.slow
def test_a_programs_return_value_reaches_it_as_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "start.py").write_text("def run(seed):\n    return {'x': [1.5, 2]}\n")
    (tmp_path / "sum.py").write_text(
        "import json, sys\nprint(json.dumps({'value': sum(json.load(open(sys.argv[1]))['x'])}))"
    )
    declaration = tmp_path / "mine.toml"
    declaration.write_text(
        'name = "sum"\nstatement = "Return numbers."\ninitial = "start.py"\n'
        '[verifier]\ncommand = ["python", "sum.py"]\n'
    )
    command = ["verify", str(declaration), str(tmp_path / "start.py"), "--json"]
    assert cli.main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["score"], report["trust"], report["mode"]) == (3.5, "verified", "training")
