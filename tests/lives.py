"""The lives of a run: runner processes that work on it and can be made to die anywhere.

A warm launcher has imported everything and opened nothing; each life is forked from it and so
starts at once. What kills it is what kills any process: it holds its own connections, lease,
sandbox and files. `python -m tests.lives` is the launcher.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Life:
    """What one runner does, and where it ends if it is not left alone."""

    url: str
    home: str
    run: str
    log: str  # points reached, one "monotonic-time pid name" a line
    point: str = ""  # act when this point is reached ...
    hit: int = 1  # ... for the hit-th time
    action: str = "SIGKILL"  # the signal it sends itself
    command: tuple[str, ...] = ()  # of `eureka`, instead of the stages alone
    bundled: bool = False  # the real policy instead of the scripted one
    poisoned: bool = False  # a scripted one that cannot sample the first prompt of a run
    lease_s: float = 60.0
    patience_s: float = 30.0
    clock_jump_s: float = 0.0  # the wall clock of the process is wrong by it, now and again
    pace_s: float = 0.0  # slept at every point, so that a fault finds the run at work
    embedded: bool = False  # the server is the home's own: the runner starts it again


@dataclass
class Runner:
    """A life under way."""

    life: Life
    pid: int
    born: float = field(default_factory=time.monotonic)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def points(self) -> list[tuple[float, str]]:
        """When it reached which points, in order."""
        if not Path(self.life.log).exists():
            return []
        lines = [x.split() for x in Path(self.life.log).read_text().splitlines()]
        return [(float(at), name) for at, pid, name in lines if int(pid) == self.pid]

    def wait_for(self, point: str, *, seconds: float = 240.0) -> None:
        """Until the runner has reached a point."""
        deadline = time.monotonic() + seconds
        while all(name != point for _, name in self.points()):
            assert time.monotonic() < deadline, f"{point} was not reached in {seconds} s"
            time.sleep(0.005)


class Launcher:
    """Starts lives. One process, warm: importing takes seconds, forking milliseconds."""

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        log: Path,
        warmth: Literal["cold", "warm", "torch"] = "warm",
    ) -> None:
        """`cold`: nothing is imported before the fork; `torch`: the real policy's code as well."""
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lives", warmth],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **(environment or {})},
            text=True,
        )

    def start(self, life: Life) -> Runner:
        return Runner(life, int(self._ask({"start": asdict(life)})))

    def wait(self, runner: Runner) -> int:
        """Its exit code, negative for the signal that ended it."""
        return int(self._ask({"wait": runner.pid}))

    def live(self, life: Life) -> tuple[Runner, int]:
        """A whole life and how it ended."""
        runner = self.start(life)
        return runner, self.wait(runner)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._log.close()

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def launch() -> None:
    """Fork a life for every line on stdin, answer with its pid, and wait for it when asked."""
    if sys.argv[1] != "cold":
        import tests.scripted_run  # noqa: F401 - the slow part, done once
    if sys.argv[1] == "torch":
        import eurekaflow.models.local  # noqa: F401
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            _, status = os.waitpid(question["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        elif not (answer := os.fork()):
            begin(Life(**{**question["start"], "command": tuple(question["start"]["command"])}))
        print(answer, flush=True)


def begin(life: Life) -> None:
    """The forked process: never returns."""
    code = 1
    try:
        sys.stdin.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        code = lived(life)
    except BaseException as error:
        from eurekaflow.flows.cli import ending

        code, message, fix = ending(error)
        print(f"life of {life.run[:8]}: {message} [{fix}]", file=sys.stderr, flush=True)
    finally:
        sys.stderr.flush()
        os._exit(code)


def lived(life: Life) -> int:
    """Work on the run to its end; returns the exit code."""
    from eurekaflow.models import faultpoints

    faultpoints.arm(Watch(life).reached)
    if life.clock_jump_s:
        jump_about(life.clock_jump_s)
    if life.command:
        return commanded(life)
    from eurekaflow.models import postgres
    from eurekaflow.models.states import RunState
    from eurekaflow.tasks import sample, session, verify
    from tests.scripted_run import ANSWERS, Poisoned, place, work

    sample.STORE_EVERY, verify.STORE_EVERY = 1, 3  # more transactions to die between

    here = replace(place(life.url, Path(life.home)), lease_s=life.lease_s,
                   patience_s=life.patience_s)  # fmt: skip
    if life.embedded:
        here = replace(here, revive=partial(postgres.ensure, here.home))
    if life.poisoned:
        here = replace(here, make_policy=lambda config, _: Poisoned(ANSWERS, seed=config.seed))
    session.configure(replace(here, make_policy=None) if life.bundled else here)
    s = session.of(life.run)
    try:
        s.archive.record_fingerprint(s.hold, s.policy.fingerprint())
        work(life.run)
        s.archive.finish(s.hold, RunState.FINISHED)
    finally:
        session.close(life.run)
    return 0


def commanded(life: Life) -> int:
    """The same through the `eureka` command, Prefect's engine included."""
    from eurekaflow.flows.cli import main
    from eurekaflow.models.scripted import ScriptedPolicy
    from eurekaflow.tasks import session

    def scripted(config: Any, _: object) -> ScriptedPolicy:
        from tests.scripted_run import ANSWERS  # only now: it imports prefect

        return ScriptedPolicy(ANSWERS, seed=config.seed)

    if not life.bundled:
        session.local_policy = scripted
    return main(life.command)


class Watch:
    """Writes down the points reached, and ends or stops the process at the chosen one."""

    def __init__(self, life: Life) -> None:
        self.life, self.hits = life, 0
        self.file = os.open(life.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def reached(self, point: str) -> None:
        os.write(self.file, f"{time.monotonic()} {os.getpid()} {point}\n".encode())
        if point == self.life.point:
            self.hits += 1
            if self.hits == self.life.hit:
                os.kill(os.getpid(), signal.Signals[self.life.action])
        if self.life.pace_s:
            time.sleep(self.life.pace_s)


def jump_about(seconds: float) -> None:
    """Make `time.time` jump forwards and back by `seconds` at every second call."""
    real, calls = time.time, [0]

    def wrong() -> float:
        calls[0] += 1
        return real() + (seconds if calls[0] % 2 else -seconds)

    time.time = wrong


if __name__ == "__main__":
    launch()
