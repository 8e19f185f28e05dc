"""The command: fast to start, honest in its exit codes, data on stdout, no traceback unasked."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eurekaflow.flows import cli
from eurekaflow.models import errors

HEAVY = ("torch", "prefect", "transformers", "sqlalchemy", "scipy")
COMMAND = [sys.executable, "-m", "eurekaflow.flows.cli"]
PROGRAM = "def run(**kw):\n    h = [0.5] * 8\n    return h, 0.5, len(h)\n"

PROBLEM = """
from eurekaflow.verifiers.problem import Judgement, Problem, Seed

class Largest(Problem):
    name = "largest"

    def seeds(self, rng, count, *, brief=False):
        return [Seed(value=0.0)] * count

    def judge(self, answer, *, exact=False):
        return Judgement(value=float(answer))
"""


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("EUREKA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EUREKA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def eureka(*arguments: str) -> int:
    """Run a command in this process; its exit code."""
    previous = signal.getsignal(signal.SIGTERM)
    try:
        return cli.main(arguments)
    finally:
        signal.signal(signal.SIGTERM, previous)


def cpu_seconds(*arguments: str) -> float:
    """CPU time of a command in a process of its own: unlike wall time, deaf to a busy machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*COMMAND, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_costs_less_than_half_a_second() -> None:
    assert min(cpu_seconds("--help") for _ in range(3)) < 0.5


def test_help_imports_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", *COMMAND[1:], "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "cyclopts" in imported
    assert not imported & {*HEAVY, "numpy", "psycopg", "pydantic"}


def test_the_commands_modules_import_nothing_heavy() -> None:
    modules = sorted({target.partition(":")[0] for _, _, target, _ in cli.COMMANDS})
    code = (
        "import importlib, sys\n"
        f"for name in {modules}: importlib.import_module('eurekaflow.flows.' + name)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not set(done.stdout.split()) & {*HEAVY, "numpy", "psycopg", "pydantic"}


def test_the_list_of_commands_says_what_each_commands_own_help_says() -> None:
    for _, _, target, text in cli.COMMANDS:
        module, _, name = target.partition(":")
        found = getattr(importlib.import_module(f"eurekaflow.flows.{module}"), name)
        own = found.help if name == "app" else (inspect.getdoc(found) or "").splitlines()[0]
        assert own == text


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["run"],
        ["run", "no-such-problem"],
        ["run", "erdos", "--no-such-flag"],
        ["run", "erdos", "--steps", "many"],
        ["run", "erdos", "--dry-run", "--steps", "0"],
        ["run", "erdos", "--dry-run", "--set", "nonsense=1"],
        ["run", "erdos", "--dry-run", "--set", "target=nan"],
        ["run", "erdos", "--dry-run", "--minutes", "inf"],
        ["run", "erdos", "--dry-run", "--lr", "1e-4", "--set", "lr=1e-3"],
        ["run", "erdos", "--dry-run", "--config", "missing.toml"],
        ["run", "erdos", "--model", "./no-such-model.gguf"],
        ["verify", "erdos", "missing.json"],
        ["verify", "./missing.py", "missing.json"],
        ["show"],
        ["resume"],
        ["sql", "select 1"],
        ["sql", "select 1", "--json", "--csv"],
    ],
)
def test_a_mistake_of_the_user_exits_with_2_and_a_fix(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert eureka(*arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("eureka: ")
    assert "fix: " in told.err
    assert "Traceback" not in told.err


def test_a_malformed_configuration_file_exits_with_2_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "eureka.toml").write_text("lr = [")
    assert eureka("run", "erdos") == 2
    assert "eureka.toml" in capsys.readouterr().err


def test_a_problem_file_that_fails_is_the_users_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("1 / 0")
    assert eureka("run", "./mine.py") == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.EurekaError("x"), 1),
        (errors.UsageError("x"), 2),
        (errors.PrerequisiteMissing("x"), 3),
        (errors.ArchiveUnavailable("x"), 3),
        (errors.ArchiveInterrupted("x"), 3),
        (errors.NoValidAttempt("x"), 4),
        (errors.RunOwned("x"), 5),
        (KeyboardInterrupt(), 130),
        (cli.Terminated(), 143),
        (RuntimeError("x"), 1),
    ],
)
def test_every_ending_has_its_exit_code(error: BaseException, code: int) -> None:
    assert cli.ending(error)[0] == code


@pytest.mark.parametrize("name", ["OperationalError", "DiskFull"])
def test_what_postgres_client_says_is_one_line_with_code_3(name: str) -> None:
    import psycopg.errors

    code, message, fix = cli.ending(getattr(psycopg.errors, name)("it failed\n\tIs it full?\n"))
    assert (code, message) == (3, "it failed Is it full?")
    assert fix


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs"],
        ["show", "1"],
        ["run", "erdos"],
        ["resume"],
        ["sql", "select 1"],
        ["db", "upgrade"],
    ],
)
def test_a_stopped_database_exits_with_3_in_one_line_and_a_fix(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUREKA_DATABASE_URL", "postgresql://u:p@127.0.0.1:1/x")
    assert eureka(*arguments) == 3
    told, fix = capsys.readouterr().err.splitlines()
    assert told.startswith("eureka: the archive did not answer: ")
    assert fix == "  fix: eureka doctor"


def test_a_database_url_that_cannot_be_exits_with_2_and_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EUREKA_DATABASE_URL", "mysql://me:hunter2secret@127.0.0.1:1/x")
    assert eureka("runs") == 2
    told = capsys.readouterr().err
    assert "EUREKA_DATABASE_URL" in told
    assert "fix: export EUREKA_DATABASE_URL=postgresql://" in told
    assert "hunter2secret" not in told


def test_tracebacks_are_shown_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert eureka("show") == 2
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("EUREKA_DEBUG", "1")
    assert eureka("show") == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_command_with_their_code(number: signal.Signals, code: int) -> None:
    child = subprocess.Popen(
        # A shell that starts the tests in the background has them ignore Ctrl-C.
        ["env", "--default-signal=INT", *COMMAND, "sql", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until_it_catches_signals(child.pid)
    child.send_signal(number)
    _, told = child.communicate(timeout=20)
    assert (child.returncode, "Traceback" in told) == (code, False)


def test_a_ctrl_c_while_a_dataclass_is_made_ends_with_130_too(tmp_path: Path) -> None:
    """CPython ends `python -m` by the signal when the interrupt came up through an exec()."""
    interrupted = (
        "import sys, eurekaflow.flows.cli as cli\n"
        "cli.build = lambda: lambda *_, **__: exec('raise KeyboardInterrupt')\n"
        "sys.exit(cli.main(['runs']))\n"
    )
    (tmp_path / "interrupted.py").write_text(interrupted)
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (130, False)


def wait_until_it_catches_signals(pid: int) -> None:
    """Wait until a process that was just started has installed its handler of SIGTERM."""
    deadline = time.monotonic() + 20
    bit = 1 << (signal.SIGTERM - 1)
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status").read_text()
        if int(status.partition("SigCgt:")[2].split()[0], 16) & bit:
            return
        time.sleep(0.05)
    raise AssertionError("the command never caught SIGTERM")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    child = subprocess.Popen(
        [*COMMAND, "problems", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    told = child.stderr.read().decode()
    assert (child.wait(timeout=20), told) == (141, "")


def test_runs_on_a_new_machine_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert eureka("runs", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert eureka("runs") == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "eureka run" in told.err


def test_a_dry_run_prints_values_with_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert eureka("run", "erdos", "--dry-run", "--json", "--lr", "1e-3", "--set", "kl=0.2") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["lr"] == {"value": 1e-3, "source": "--lr"}
    assert printed["kl"] == {"value": 0.2, "source": "--set kl"}


def test_a_construction_is_scored_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "h.json").write_text("[0.5, 0.5, 0.5, 0.5]")
    assert eureka("verify", "erdos", "h.json", "--exact", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["valid"], report["score"], report["value"]) == (True, 0.5, -0.5)
    assert report["mode"] == "exact"
    known = {"holder", "score", "kind", "role", "mode", "source", "ahead"}
    assert known == set(report["records"][0])
    assert all(record["ahead"] < 0 for record in report["records"])


def test_a_long_construction_is_scored_by_hand_without_asking_for_exactness(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "h.json").write_text(json.dumps([0.5] * 20_000))
    assert eureka("verify", "erdos", "h.json", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["score"] == pytest.approx(0.5, abs=1e-12)
    assert (report["mode"], report["exact"]) == ("verify", None)


def test_an_invalid_construction_exits_with_1_and_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "h.json").write_text('["a"]')
    assert eureka("verify", "erdos", "h.json", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["valid"], report["score"]) == (False, None)
    assert report["message"]


def test_a_program_is_scored_in_the_sandbox(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answer.py").write_text(PROGRAM)
    assert eureka("verify", "erdos", "answer.py") == 0
    told = capsys.readouterr()
    assert "0.5" in told.out
    assert "TTT-Discover" in told.out


def test_control_characters_of_a_program_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answer.py").write_text("def run(**kw):\n    raise ValueError('\\x1b[2J')\n")
    assert eureka("verify", "erdos", "answer.py") == 1
    assert "\x1b[2J" not in capsys.readouterr().out


def test_a_problem_file_is_verified_from_its_own_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(PROBLEM)
    (tmp_path / "answer.py").write_text("def run(**kw):\n    return 3.0\n")
    assert eureka("verify", "./mine.py", "answer.py", "--json") == 0
    assert json.loads(capsys.readouterr().out)["score"] == 3.0


def test_problems_lists_records(capsys: pytest.CaptureFixture[str]) -> None:
    assert eureka("problems", "--json") == 0
    found = {problem["name"]: problem for problem in json.loads(capsys.readouterr().out)}
    assert found["erdos"]["record"] == 0.380876
