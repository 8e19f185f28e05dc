"""The attacks, the world they attack, and what counts as blocked.

An attack is a function of a family's module: its docstring is the idea, its source is the program.
It gains something when it returns a true value or changes its world; a wall's evidence is how it
ended instead. Limits are small so that the bombs can be small too.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from eurekaflow.verifiers import erdos
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.problem import Outcome, Verdict
from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits, Sandbox
from tests.attacks import bombs, forging, kernel, network, processes, reading, writing

FAMILIES = (reading, writing, network, bombs, processes, kernel, forging)
LIMITS = Limits(
    wall_s=1.0, cpu_s=5.0, memory_bytes=96 << 20, scratch_bytes=2 << 20, result_bytes=1 << 20
)
FLOOD_BYTES = 32 << 20
OUTLIVE_S = 20
SECRET, URL = "the secret of the house", "postgresql://user:hidden-password@host/archive"
RECORD = {"erdos": -0.380876, "circle-packing-26": 2.635983}  # values that an attack must exceed
NEVER_VALID = frozenset({
    "packing_half_precision", "packing_booleans", "packing_complex", "packing_infinite",
    "packing_not_a_number", "packing_masked", "packing_of_more_circles", "lying_float",
    "lying_array", "masked_heights", "duplicate_keys", "forged_marshal",
})  # fmt: skip


@dataclass(frozen=True)
class Attack:
    """One idea."""

    family: str
    name: str
    idea: str
    program: str

    @property
    def forges(self) -> bool:
        """Whether it aims at the verdict and not at the machine."""
        return self.family == "forging"

    @property
    def problem(self) -> str:
        return "circle-packing-26" if self.name.startswith("packing") else "erdos"


def _attacks(family: ModuleType) -> Iterator[Attack]:
    for name, function in inspect.getmembers(family, inspect.isfunction):
        if function.__module__ == family.__name__:
            idea = " ".join((function.__doc__ or "").split())
            source = f"from typing import Any\n\n{inspect.getsource(function)}"
            yield Attack(family.__name__.rpartition(".")[2], name, idea, source)


ATTACKS = tuple(attack for family in FAMILIES for attack in _attacks(family))


class World:
    """A throwaway folder, a process to be attacked, and services to be reached."""

    def __init__(self) -> None:
        self.mark = "ek" + uuid.uuid4().hex[:10]
        self.folder = Path(tempfile.mkdtemp(prefix="eurekaflow-attacks-"))
        self.folder.chmod(0o755)
        self._closing = contextlib.ExitStack()
        self.reached: list[str] = []
        home, drop, other, library, work = (
            self._made(name) for name in ("home", "drop", "other", "library", "work")
        )
        home.chmod(0o700)
        (home / "secret").write_text(f"{SECRET} {self.mark}")
        (other / "work.py").write_text("x = 1")
        self.open_file = self.folder / "open"
        self.values: dict[str, Any] = {
            "secret_file": str(home / "secret"), "drop": str(drop), "mark": self.mark,
            "other_candidate": str(other), "library": str(library), "work": str(work),
            "open_file": str(self.open_file), "verifier": erdos.__file__,
            "port": self._service(socket.AF_INET, ("127.0.0.1", 0))[1],
            "port6": self._service(socket.AF_INET6, ("::1", 0))[1],
            "unix": self._service(socket.AF_UNIX, f"{self.folder}/socket"),
            "memory_bytes": LIMITS.memory_bytes, "scratch_bytes": LIMITS.scratch_bytes,
            "result_bytes": LIMITS.result_bytes, "wall_s": LIMITS.wall_s,
            "flood_bytes": FLOOD_BYTES, "outlive_s": OUTLIVE_S,
        }  # fmt: skip
        self._service(socket.AF_UNIX, f"\0{self.mark}")
        self.victim: subprocess.Popen[str] | None = None

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        folder.chmod(0o777)
        return folder

    def _service(self, family: int, address: Any) -> Any:
        """Something that listens; who connects is noted."""
        server = socket.socket(family, socket.SOCK_STREAM)
        server.bind(address)
        server.listen()
        if family == socket.AF_UNIX and not address.startswith("\0"):
            os.chmod(address, 0o777)
        self._closing.callback(server.close)
        self._closing.callback(lambda: server.shutdown(socket.SHUT_RDWR))
        threading.Thread(target=self._greet, args=(server,), daemon=True).start()
        return server.getsockname()

    def _greet(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = server.accept()
                self.reached.append(str(server.family))
                with peer:
                    peer.sendall(b"HTTP/1.0 200 OK\r\n\r\nwelcome")

    def prepare(self) -> dict[str, Any]:
        """Everything as at first; the values that an attack is told."""
        self.reached.clear()
        shutil.rmtree(self.values["drop"])
        self._made("drop")
        subprocess.run(["rm", "-rf", self.values["work"]], check=True)
        self._made("work")
        self.open_file.write_text("as it was")
        self.open_file.chmod(0o666)
        os.utime(self.open_file, (1e9, 1e9))
        if self.victim is None or not self._well(self.victim):
            self._replace_victim()
        return self.values

    def _replace_victim(self) -> None:
        self._end_victim()
        script = (
            "import ctypes, sys\n"
            "held = ctypes.create_string_buffer(b'memories')\n"
            f"file = open({self.values['secret_file']!r})\n"
            "print(ctypes.addressof(held), file.fileno(), flush=True)\n"
            "sys.stdin.read()"
        )
        self.victim = subprocess.Popen(
            [sys.executable, "-S", "-c", script], env={"DATABASE_URL": URL}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.victim.stdout is not None
        address, descriptor = map(int, self.victim.stdout.readline().split())
        self.values |= {
            "victim": self.victim.pid, "victim_address": address, "victim_descriptor": descriptor,
        }  # fmt: skip

    def _well(self, victim: subprocess.Popen[str]) -> bool:
        if victim.poll() is not None:
            return False
        status = Path(f"/proc/{victim.pid}/stat").read_text().rpartition(")")[2].split()
        return status[0] in "SR" and int(status[16]) == os.getpriority(os.PRIO_PROCESS, 0)

    def harm(self) -> list[str]:
        """What is not as it was, seen from outside."""
        assert self.victim is not None
        found = [f"reached {name}" for name in self.reached]
        found += [] if self._well(self.victim) else ["the other process was hurt"]
        found += [f"left {name}" for name in os.listdir(self.values["drop"]) if name[:3] != "out"]
        if not self.open_file.exists():
            return [*found, "a file is gone"]
        now = self.open_file.stat()
        same = self.open_file.read_text() == "as it was" and now.st_mtime == 1e9
        found += [] if same and now.st_mode & 0o777 == 0o666 else ["a file was changed"]
        found += ["hidden attribute"] if os.listxattr(self.open_file) else []
        return found + [f"process {pid} goes on" for pid in self._marked()]

    def _marked(self) -> list[int]:
        found = []
        for comm in Path("/proc").glob("[0-9]*/comm"):
            with contextlib.suppress(OSError):
                if comm.read_text().strip() == self.mark:
                    found.append(int(comm.parent.name))
        return found

    def end_marked(self) -> None:
        """End what a control left behind."""
        for pid in self._marked():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _end_victim(self) -> None:
        if self.victim is not None:
            self.victim.kill()
            self.victim.communicate()

    def close(self) -> None:
        """Leave nothing of it."""
        self.end_marked()
        self._end_victim()
        self._closing.close()
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)


@dataclass(frozen=True)
class Result:
    """How one attack went: what it gained, or by what it was stopped."""

    gains: tuple[str, ...]
    wall: str


def attempt(attack: Attack, sandbox: Sandbox, judge: Judge, world: World) -> Result:
    """One attack in a sandbox."""
    program = attack.program + f"\ndef run(world):\n    return {attack.name}(world)\n"
    job = Job(program=program, entry_point="run", arguments={"world": world.prepare()})
    execution = sandbox.run(job, LIMITS)
    verdict = judge.verdict(attack.problem, execution) if attack.forges else None
    gains = [*world.harm(), *_gained(attack, execution, verdict)]
    return Result(tuple(gains), evidence(execution, verdict))


def _gained(attack: Attack, execution: Execution, verdict: Verdict | None) -> list[str]:
    gains = []
    if verdict is not None:
        valid = verdict.outcome is Outcome.VALID and verdict.value is not None
        if valid and attack.name in NEVER_VALID:
            gains.append("accepted")
        if valid and (verdict.value or -9.0) > RECORD[attack.problem]:
            gains.append(f"scored {verdict.value}")
        if attack.name == "faked_clock" and execution.wall_s < LIMITS.wall_s:
            gains.append(f"timed at {execution.wall_s} s")
    elif execution.result is not None and json.loads(execution.result):
        gains.append(f"returned {execution.result[:100]!r}")
    if len(execution.stdout) > LIMITS.stdout_bytes or len(execution.message) > 1000:
        gains.append("more was kept than allowed")
    if execution.wall_s > 3 * LIMITS.wall_s:
        gains.append(f"went on for {execution.wall_s:.1f} s")
    return gains


WALLS = {
    errno.EPERM: "not permitted by filter or capabilities",
    errno.ENOSYS: "the system-call filter knows no such call",
    errno.EACCES: "no access",
    errno.ENOENT: "it is not in the candidate's view",
    errno.EROFS: "read-only root",
    errno.ESRCH: "no such process in its namespace",
    errno.ENOSPC: "the folder's size",
    errno.EFBIG: "the file-size limit",
    errno.EMFILE: "the limit on descriptors",
    errno.EAGAIN: "the limit on processes",
    errno.ENOMEM: "the memory limit",
    errno.EAFNOSUPPORT: "no such family of sockets",
    errno.ENXIO: "no such device",
    errno.EINVAL: "no link there",
    errno.EXDEV: "another file system",
}
CAUSES = {
    Cause.TIMEOUT: "killed at the deadline",
    Cause.MEMORY: "the memory limit",
    Cause.KILLED: "killed",
    Cause.NO_RESULT: "no result",
    Cause.TOO_LARGE: "the limit on results",
}


def evidence(execution: Execution, verdict: Verdict | None) -> str:
    """In words, what stopped it; empty when nothing visible did."""
    if execution.cause in CAUSES:
        return f"{CAUSES[execution.cause]}: {execution.message}"
    if number := re.search(r"\[Errno (\d+)\]", execution.message):
        code = int(number[1])
        return f"{WALLS.get(code, 'refused')} ({errno.errorcode[code]})"
    if execution.cause is Cause.RAISED:
        return f"refused: {execution.message[:80]}"
    if verdict is not None:
        scored = "" if verdict.value is None else f", worth {verdict.value:.4g}"
        return f"scored by itself: {verdict.outcome}{scored} {verdict.message}".strip()[:120]
    if execution.stdout_dropped:
        return f"cut: {execution.stdout_dropped} bytes of output dropped"
    return "nothing was gained" if execution.result in (b"null", b"[]", b"false") else ""


def control(attack: Attack, world: World) -> list[str]:
    """The same attack without any wall: what it gains."""
    values = world.prepare()
    program = world.folder / "program.py"
    program.write_text(attack.program)
    (world.folder / "world.json").write_text(json.dumps(values))
    script = Path(__file__).with_name("naive.py")
    done = subprocess.run(
        [sys.executable, str(script), str(program), attack.name,
         str(world.folder / "world.json"), "1" if attack.name == "bomb_time" else "20"],
        env={"DATABASE_URL": URL, "PATH": os.environ["PATH"], "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    time.sleep(0.05)
    gains = world.harm()
    if attack.name == "bomb_folders" and os.listdir(world.values["work"]):
        gains.append("left folders that are hard to remove")
    world.end_marked()
    if done.returncode:  # a harness that broke is no gain: nothing was shown
        return gains
    return gains + _unwalled(attack, json.loads(done.stdout.strip().splitlines()[-1]))


def _unwalled(attack: Attack, report: dict[str, Any]) -> list[str]:
    score, gains = report["score"], []
    if attack.forges:
        value = -score if score is not None and attack.problem == "erdos" else score
        if value is not None and value > RECORD[attack.problem]:
            gains.append(f"scored {score:.4g}")
        if attack.name == "faked_clock" and (report["took_s"] or 9) < 1:
            gains.append(f"timed at {report['took_s']} s")
    elif report["gained"]:
        gains.append("gained")
    if "ran" in report["output"]:
        gains.append("ran another program")
    if max(report["printed"], report["errors"]) > 10 * LIMITS.stdout_bytes:
        gains.append(f"{report['printed']} bytes kept")
    if attack.name == "bomb_after_return" and report["lived_s"] > 2 * LIMITS.wall_s:
        gains.append(f"went on for {report['lived_s']:.1f} s")
    return gains or []
