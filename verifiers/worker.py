"""One zygote seen from the host: start it, hand it jobs, read bounded answers, replace nothing.

Raises `WorkerFailed` when the zygote itself misbehaves; whatever a candidate does is an
`Execution`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eurekaflow.verifiers.cgroup import ControlGroup
from eurekaflow.verifiers.exchange import Exchange
from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits

START_S = 120.0  # importing scipy on a loaded machine
LEAVE_S = 2.0
LAST_WORDS_BYTES = 1 << 16
OWN_BYTES = 256 << 20  # of the zygote itself, in its control group
OWN_TASKS = 80  # the zygote's processes and a candidate's threads
FOLDER = Path(__file__).resolve().parent
DATA_IN_PACKAGES = ("scanpy/datasets",)  # what a problem's hidden data could be read from
FLAGS = ("-s", "-S", "-P", "-B")  # no user site, no site, no script folder, no bytecode files
BOOT = """
import sys, types
for name in ("eurekaflow", "eurekaflow.verifiers"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [sys.argv[1]] if "." in name else []
sys.argv, sys.orig_argv = ["program"], []
from eurekaflow.verifiers.zygote import main
main()
"""
ENVIRONMENT = {  # read when the interpreter and OpenBLAS start; sets iterate alike in every zygote
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
}


class WorkerFailed(RuntimeError):
    """The zygote could not be started, died, or stopped answering."""


def configuration(level: str, stack: str) -> dict[str, Any]:
    """What a zygote must know of this installation: where Python and its packages lie."""
    site = _package_folders()
    prefixes = {sys.base_prefix, sys.base_exec_prefix}
    prefixes |= {os.path.realpath(prefix) for prefix in prefixes}
    ours = FOLDER.parent
    hidden = [ours, *(Path(folder) / part for folder in site for part in DATA_IN_PACKAGES)]
    if level != "namespaces":  # Landlock cannot subtract our own package, so it is not added
        system = ["/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache"]
        entries = [str(entry) for folder in site for entry in Path(folder).iterdir()
                   if not _holds(entry.resolve(), hidden)]  # fmt: skip
        readable = [*sorted(prefixes), *system, *entries]
    else:
        readable = [*sorted(prefixes), *site]
    return {"level": level, "stack": stack, "site": site, "readable": readable, "listed": site,
            "masked": [str(path) for path in hidden if path.is_dir()]}  # fmt: skip


def _holds(entry: Path, hidden: list[Path]) -> bool:
    return any(path.is_relative_to(entry) for path in hidden)


def _package_folders() -> list[str]:
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    for package in ("numpy", "scipy"):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            folders.append(str(Path(spec.origin).parents[1]))
    return [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]


class Worker:
    """A running zygote. Not thread-safe: one job at a time."""

    def __init__(self, level: str, stack: str) -> None:
        """Launch it without waiting; `wait_ready` waits. `stack` names what is preloaded."""
        self.jobs = 0
        self.layers: tuple[str, ...] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [os.path.realpath(sys.executable), *FLAGS, "-c", BOOT, str(FOLDER)],
                stdin=theirs.fileno(),
                stdout=self._errors,
                stderr=self._errors,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        self._group = ControlGroup.make() if level != "none" else None
        self._join()
        config = {**configuration(level, stack), "grouped": self._group is not None}
        self._control.send(json.dumps(config).encode())

    def _join(self) -> None:
        """Into the control group before it forks; the limits of each process remain without."""
        if self._group is not None:
            try:
                self._group.add(self.pid)
            except OSError:
                self._group.remove()
                self._group = None

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def wait_ready(self) -> tuple[str, ...]:
        """The layers it has proven; raises WorkerFailed with its reason when it cannot work."""
        if self.layers is None:
            answer = self._receive(START_S)
            if "error" in answer:
                raise WorkerFailed(answer["error"])
            group = self._group.layers if self._group is not None else ()
            self.layers = (*answer["layers"], *group)
        return self.layers

    def run(self, job: Job, limits: Limits) -> Execution:
        """Run one job to its end. Raises WorkerFailed."""
        self.wait_ready()
        self.jobs += 1
        killed = self._limit_group(limits)
        exchange = Exchange(self._control, job, limits)
        try:
            report = exchange.carry_out()
        except OSError as problem:
            raise WorkerFailed(f"talking to the zygote failed: {problem}") from problem
        finally:
            exchange.close()
        if report is None:
            raise WorkerFailed(f"the zygote {self.pid} died or went silent{self._last_words()}")
        if "error" in report:  # it could not even fork; its socket is closed by now
            raise WorkerFailed(f"the zygote {self.pid} failed: {report['error']}")
        if report["setup"] != "R":
            raise WorkerFailed(f"a child could not be confined: {report['setup'] or 'it died'}")
        execution = exchange.execution(report, worker=str(self.pid))
        if self._group is not None and self._group.kills() > killed:
            message = f"memory limit of {limits.memory_bytes} bytes, of all its processes"
            return replace(execution, cause=Cause.MEMORY, message=message, result=None)
        return execution

    def _limit_group(self, limits: Limits) -> int:
        """Limits on the zygote and the candidate's whole tree; the kills for memory so far."""
        if self._group is None:
            return 0
        memory = limits.memory_bytes + limits.scratch_bytes + OWN_BYTES
        try:
            self._group.limit(memory_bytes=memory, processes=limits.processes + OWN_TASKS)
        except OSError as problem:
            raise WorkerFailed(f"its control group cannot be limited: {problem}") from problem
        return self._group.kills()

    def _receive(self, seconds: float) -> dict[str, Any]:
        self._control.settimeout(seconds)
        try:
            message = self._control.recv(1 << 20)
        except OSError as problem:
            raise WorkerFailed(
                f"no answer in {seconds:g} s ({problem}){self._last_words()}"
            ) from problem
        finally:
            self._control.settimeout(None)
        if not message:
            raise WorkerFailed(f"it exited while starting{self._last_words()}")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read(LAST_WORDS_BYTES).decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def end(self) -> None:
        """End it and everything in it, from any thread; returns when it is gone."""
        if self.layers is None or not self._leaves_by_itself():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            self._hear_the_end()
        self._process.wait()
        if self._group is not None:
            self._group.remove()

    def close(self) -> None:
        """`end` it and let go of its descriptors; no job may be running."""
        self.end()
        self._control.close()
        self._errors.close()

    def _leaves_by_itself(self) -> bool:
        """A closed socket ends a healthy zygote with its candidate."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._control.shutdown(socket.SHUT_WR)
            self._process.wait(LEAVE_S)
            return True
        return False

    def _hear_the_end(self) -> None:
        """The launcher takes the zygote along; the socket ends with the last of them."""
        self._control.settimeout(LEAVE_S)
        with contextlib.suppress(OSError):
            while self._control.recv(1 << 16):
                pass
