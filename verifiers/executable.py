"""A verifier that is any executable: it gets the answer's path and prints one JSON object.

    name = "bench"                        # problem.toml, or any .toml given to `eureka run`
    statement = "…"                       # or statement_file = "task.md"
    answer = "text"                       # text, json; python: a program's return value, as JSON
    initial = "start.v"                   # a valid answer, or the program that returns one
    [verifier]
    command = ["./verify.sh"]             # run in the file's folder; the answer's path comes last
    timeout_s = 30
    network = false                       # true: it may reach a licence server or a simulator
    environment = { LM_LICENSE_FILE = "27000@licences" }

It prints `{"value": 1.5, "valid": true, "message": ""}`; what else is a number becomes a metric.
The user's own program is trusted: it runs outside the sandbox, in the process of the verifier
worker's user. It has no network unless that is declared, and the variables declared here alone.
The candidate never gets either: it runs in the sandbox, and its answer crosses as a file.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from eurekaflow.verifiers.answers import parse
from eurekaflow.verifiers.problem import (
    TRAINING,
    InvalidAnswer,
    Judgement,
    Problem,
    ProblemUnusable,
    Seed,
)
from eurekaflow.verifiers.sandbox import Cause

ANSWERS = ("python", "json", "text")
PATH = "/usr/local/bin:/usr/bin:/bin"
PRINTED_BYTES = 1 << 20
DISCONNECTED = (sys.executable, "-I", "-m", "eurekaflow.verifiers.disconnected")
SPARE_S = 5.0  # the worker outlives its executable


@dataclass(frozen=True, kw_only=True)
class Command:
    """How the executable is run."""

    arguments: tuple[str, ...]
    folder: Path
    timeout_s: float = 30.0
    network: bool = False
    environment: Mapping[str, str]

    def report(self, answer: bytes, suffix: str) -> dict[str, Any]:
        """What it prints of an answer. Raises InvalidAnswer when it does not end in time,
        RuntimeError when it fails otherwise: that is not a statement about the answer."""
        with tempfile.TemporaryDirectory(prefix="answer-") as private:
            file = Path(private) / f"answer{suffix}"
            file.write_bytes(answer)
            status, printed = self._run(file, Path(private))
        if status:
            raise RuntimeError(f"{self.arguments[0]} ended with status {status}: {_tail(printed)}")
        try:
            found = parse(printed.strip())
        except InvalidAnswer as reason:
            raise RuntimeError(f"{self.arguments[0]} printed no JSON object: {reason}") from None
        if not isinstance(found, dict):
            raise RuntimeError(f"{self.arguments[0]} printed no JSON object: {_tail(printed)}")
        return found

    def _run(self, file: Path, private: Path) -> tuple[int, bytes]:
        """Exit status and standard output; its errors come after the output when it fails."""
        environment = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": str(private), **self.environment}
        with (
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(
                [*([] if self.network else DISCONNECTED), *self.arguments, str(file)],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            ) as process,
        ):
            try:
                status = process.wait(self.timeout_s)
            except subprocess.TimeoutExpired:
                raise InvalidAnswer(f"verification exceeded {self.timeout_s:g} s") from None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            output.seek(0)
            printed = output.read(PRINTED_BYTES)
            errors.seek(0)
            return status, printed if status == 0 else printed + errors.read(PRINTED_BYTES)


class ExecutableProblem(Problem):
    """The problem that a declaration is; `load` makes one class per file."""

    modes = (TRAINING,)
    claim_mode = TRAINING
    file: ClassVar[Path]
    told: ClassVar[str]
    initial: ClassVar[str]
    initial_name: ClassVar[str]
    command: ClassVar[Command]

    def statement(self, *, brief: bool = False) -> str:
        """What the declaration says."""
        return self.told

    def judge(self, answer: object, *, exact: bool = False) -> Judgement:
        """The executable's word. Raises InvalidAnswer with its message."""
        text = answer if self.answer == "text" else json.dumps(answer)
        assert isinstance(text, str)
        suffix = Path(self.initial_name).suffix if self.answer == "text" else ".json"
        said = self.command.report(text.encode(), suffix)
        message = str(said.get("message") or "")
        if said.get("valid", True) is not True:
            raise InvalidAnswer(message or "the verifier says that it is not valid")
        value: Any = said.get("value")
        if not _is_number(value):
            raise RuntimeError(f"{self.command.arguments[0]} gave the value {value!r}")
        metrics = {k: float(v) for k, v in said.items() if k != "value" and _is_number(v)}
        return Judgement(value=self.value(float(value)), metrics=metrics)

    def prove(self) -> None:
        """Verify the initial answer, so that a verifier that cannot work is noticed at once."""
        _ = self._first

    def seeds(
        self, rng: np.random.Generator, count: int, *, brief: bool = False
    ) -> Sequence[Seed]:
        """The declared start with the executable's value of it."""
        return [self._first] * count

    @cached_property
    def _first(self) -> Seed:
        try:
            value = self.judge(self._start()).value
        except (InvalidAnswer, RuntimeError, OSError, subprocess.SubprocessError) as error:
            hint = "" if self.command.network else " (it has no network; network = true gives it)"
            raise ProblemUnusable(
                f"{self.file}: no value of {self.initial_name}: {error}{hint}"
            ) from None
        return Seed(value=value, program=self.initial)

    def _start(self) -> object:
        """The initial answer; a program's is what it returns in the sandbox."""
        if self.answer != "python":
            return self.initial if self.answer == "text" else parse(self.initial.encode())
        from eurekaflow.verifiers.process import ProcessSandbox

        job = self.job(self.initial, parent=None, seed=0, budget_s=10)
        with ProcessSandbox(1) as sandbox:
            execution = sandbox.run(job, self.limits(budget_s=10))
        if execution.cause is not Cause.RETURNED or execution.result is None:
            raise InvalidAnswer(f"{execution.cause}: {execution.message}")
        return parse(execution.result)


def load(file: Path) -> Problem:
    """The problem that a TOML file declares. Raises ProblemUnusable naming what is wrong."""
    file = file.resolve()
    try:
        declared = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProblemUnusable(f"{file} cannot be read: {error}") from None
    fields = _Fields(file, declared)
    told = fields.text("statement", "") or fields.content("statement_file")
    facts: dict[str, Any] = {
        "__doc__": f"Declared by {file}.",
        "file": file,
        "told": told,
        "name": fields.text("name", file.parent.name),
        "title": fields.text("title", ""),
        "version": fields.text("version", "1"),
        "metric": fields.text("metric", "value"),
        "direction": fields.one_of("direction", ("max", "min")),
        "answer": fields.one_of("answer", ANSWERS),
        "entry_point": fields.text("entry_point", "run"),
        "initial": fields.content("initial"),
        "initial_name": fields.text("initial", ""),
    }
    facts["command"] = command = _command(file, declared.get("verifier"))
    facts["verification_s"] = command.timeout_s + SPARE_S
    made: type[Problem] = type("DeclaredProblem", (ExecutableProblem,), facts)
    return made()


@dataclass(frozen=True)
class _Fields:
    file: Path
    declared: Mapping[str, Any]

    def text(self, name: str, otherwise: str) -> str:
        value = self.declared.get(name, otherwise)
        if not isinstance(value, str):
            raise ProblemUnusable(f"{self.file}: {name} = {value!r} must be text")
        return value

    def one_of(self, name: str, allowed: Sequence[str]) -> str:
        value = self.text(name, allowed[0])
        if value not in allowed:
            known = ", ".join(allowed)
            raise ProblemUnusable(f"{self.file}: {name} = {value!r}; allowed: {known}")
        return value

    def content(self, name: str) -> str:
        """The text of the file that the field names, beside the declaration."""
        named = self.text(name, "")
        try:
            return (self.file.parent / named).read_text(encoding="utf-8") if named else ""
        except (OSError, UnicodeDecodeError) as error:
            raise ProblemUnusable(f"{self.file}: {name} = {named!r}: {error}") from None


def _command(file: Path, section: object) -> Command:
    if not isinstance(section, dict) or not section.get("command"):
        raise ProblemUnusable(f'{file}: give [verifier] with command = ["./verify.sh"]')
    arguments, timeout_s = section["command"], section.get("timeout_s", 30.0)
    environment, network = section.get("environment", {}), section.get("network", False)
    right = {
        "command": isinstance(arguments, list) and all(isinstance(a, str) for a in arguments),
        "timeout_s": _is_number(timeout_s) and timeout_s > 0,
        "network": isinstance(network, bool),
        "environment": isinstance(environment, dict)
        and all(isinstance(value, str) for value in environment.values()),
    }
    for name in (name for name, good in right.items() if not good):
        raise ProblemUnusable(f"{file}: verifier.{name} = {section[name]!r} is of the wrong kind")
    arguments = [sys.executable if a == "python" and not i else a for i, a in enumerate(arguments)]
    return Command(
        arguments=tuple(arguments),
        folder=file.parent,
        timeout_s=float(timeout_s),
        network=network,
        environment=environment,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _tail(printed: bytes) -> str:
    return " ".join(printed.decode(errors="replace").split())[-300:]
