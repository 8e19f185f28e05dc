"""One zygote seen from the host: start it, hand it jobs, read bounded answers, replace nothing.

Raises `WorkerFailed` when the zygote itself misbehaves; whatever a candidate does is an
`Execution`.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits

START_S = 120.0  # importing scipy on a loaded machine
GRACE_S = 40.0  # beyond the wall limit, before a silent zygote is given up; set-up included
CHUNK = 1 << 16
FORGED_SLACK = 4096  # the stub itself stays under the limit; more is a forgery
FOLDER = Path(__file__).resolve().parent
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


def configuration(level: str) -> dict[str, Any]:
    """What a zygote must know of this installation: where Python and its packages lie."""
    site = _package_folders()
    prefixes = {sys.base_prefix, sys.base_exec_prefix}
    prefixes |= {os.path.realpath(prefix) for prefix in prefixes}
    ours = FOLDER.parent
    if level == "landlock":  # Landlock cannot subtract our own package, so it is not added
        system = ["/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache"]
        entries = [str(entry) for folder in site for entry in Path(folder).iterdir()
                   if entry.resolve() != ours]  # fmt: skip
        readable = [*sorted(prefixes), *system, *entries]
    else:
        readable = [*sorted(prefixes), *site]
    return {"level": level, "site": site, "readable": readable, "listed": site,
            "masked": [str(ours)]}  # fmt: skip


def _package_folders() -> list[str]:
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    for package in ("numpy", "scipy"):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            folders.append(str(Path(spec.origin).parents[1]))
    return [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]


@dataclass
class _Collected:
    """Bytes read from one pipe: kept up to a cap, the rest counted."""

    cap: int
    kept: bytearray = field(default_factory=bytearray)
    dropped: int = 0

    def add(self, data: bytes) -> None:
        room = self.cap - len(self.kept)
        self.kept += data[:room]
        self.dropped += max(0, len(data) - room)


class Worker:
    """A running zygote. Not thread-safe: one job at a time."""

    def __init__(self, level: str) -> None:
        """Launch it without waiting; `wait_ready` waits."""
        self.jobs = 0
        self.layers: tuple[str, ...] | None = None
        self._errors = tempfile.TemporaryFile()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [os.path.realpath(sys.executable), "-s", "-S", "-P", "-B", "-c", BOOT, str(FOLDER)],
                stdin=theirs, stdout=self._errors, stderr=self._errors, env=ENVIRONMENT, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        self._control.send(json.dumps(configuration(level)).encode())

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> tuple[str, ...]:
        """The layers it has proven; raises WorkerFailed with its reason when it cannot work."""
        if self.layers is None:
            answer = self._receive(START_S)
            if "error" in answer:
                raise WorkerFailed(answer["error"])
            self.layers = tuple(answer["layers"])
        return self.layers

    def run(self, job: Job, limits: Limits) -> Execution:
        """Run one job to its end. Raises WorkerFailed."""
        self.wait_ready()
        self.jobs += 1
        exchange = _Exchange(self._control, job, limits)
        try:
            report = exchange.carry_out()
        except OSError as problem:
            raise WorkerFailed(f"talking to the zygote failed: {problem}") from problem
        finally:
            exchange.close()
        if report is None:
            raise WorkerFailed(f"the zygote {self.pid} died or went silent{self._last_words()}")
        if report["setup"] != "R":
            raise WorkerFailed(f"a child could not be confined: {report['setup'] or 'it died'}")
        return exchange.execution(report, worker=str(self.pid))

    def _receive(self, seconds: float) -> dict[str, Any]:
        self._control.settimeout(seconds)
        try:
            message = self._control.recv(1 << 20)
        except OSError as problem:
            raise WorkerFailed(f"no answer in {seconds:g} s ({problem}){self._last_words()}") from problem
        finally:
            self._control.settimeout(None)
        if not message:
            raise WorkerFailed(f"it exited while starting{self._last_words()}")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read(CHUNK).decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def close(self) -> None:
        """Kill it and everything in it; returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._control.close()
        self._errors.close()


def encode_job(job: Job) -> bytes:
    """Length, JSON header, raw float64 data: what the stub reads."""
    arrays = {name: np.ascontiguousarray(value, np.float64) for name, value in job.arrays.items()}
    header = json.dumps({
        "program": job.program, "entry_point": job.entry_point, "prelude": job.prelude,
        "arguments": dict(job.arguments), "seed": job.seed,
        "arrays": [(name, value.shape) for name, value in arrays.items()],
    }).encode()  # fmt: skip
    return b"".join((struct.pack("=Q", len(header)), header, *(v.tobytes() for v in arrays.values())))


class _Exchange:
    """One job's pipes: feed the job, collect result and output, wait for the zygote's report."""

    def __init__(self, control: socket.socket, job: Job, limits: Limits) -> None:
        self._control, self._limits = control, limits
        self._unsent = memoryview(encode_job(job))
        self._result = _Collected(limits.result_bytes + FORGED_SLACK)
        self._output = _Collected(limits.stdout_bytes)
        self._asked_to_stop = False
        self._report: dict[str, Any] | None = None
        (self._theirs, self._ours) = _pipes()

    def carry_out(self) -> dict[str, Any] | None:
        """The zygote's report, or None when it died or went silent."""
        limits = self._limits
        allowance = {name: getattr(limits, name) for name in (
            "wall_s", "cpu_s", "memory_bytes", "scratch_bytes", "processes")}  # fmt: skip
        request = {"allowance": allowance, "result_bytes": limits.result_bytes}
        socket.send_fds(self._control, [json.dumps(request).encode()], self._theirs)
        self._close_theirs()
        deadline = time.monotonic() + limits.wall_s + GRACE_S
        with selectors.DefaultSelector() as selector:
            job, result, output = self._ours
            selector.register(job, selectors.EVENT_WRITE, self._feed)
            selector.register(result, selectors.EVENT_READ, self._take_result)
            selector.register(output, selectors.EVENT_READ, self._take_output)
            selector.register(self._control, selectors.EVENT_READ, self._take_report)
            while self._report is None and time.monotonic() < deadline:
                for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                    if not key.data(key.fd):
                        selector.unregister(key.fileobj)
                        if key.fileobj is self._control:
                            return None
        self._drain()
        return self._report

    def _feed(self, descriptor: int) -> bool:
        with contextlib.suppress(BrokenPipeError):
            self._unsent = self._unsent[os.write(descriptor, self._unsent[:CHUNK]) :]
            if self._unsent:
                return True
        self._ours.remove(descriptor)
        os.close(descriptor)  # the end of the job, or the child that was to read it is gone
        return False

    def _take_result(self, descriptor: int) -> bool:
        data = os.read(descriptor, CHUNK)
        self._result.add(data)
        if self._result.dropped and not self._asked_to_stop:
            self._asked_to_stop = True
            self._control.send(b"stop")
        return bool(data)

    def _take_output(self, descriptor: int) -> bool:
        data = os.read(descriptor, CHUNK)
        self._output.add(data)
        return bool(data)

    def _take_report(self, _: int) -> bool:
        message = self._control.recv(CHUNK)
        self._report = json.loads(message) if message else None
        return bool(message)

    def _drain(self) -> None:
        """What is still in the pipes; every writer is dead by now, so this ends."""
        for descriptor, take in zip(self._ours[-2:], (self._take_result, self._take_output), strict=True):
            with contextlib.suppress(BlockingIOError):
                while take(descriptor):
                    pass

    def _close_theirs(self) -> None:
        while self._theirs:
            os.close(self._theirs.pop())

    def close(self) -> None:
        self._close_theirs()
        while self._ours:
            os.close(self._ours.pop())

    def execution(self, report: Mapping[str, Any], *, worker: str) -> Execution:
        cause, message = self._cause(report)
        returned = cause is Cause.RETURNED
        return Execution(
            cause=cause,
            result=bytes(memoryview(self._result.kept)[1:]) if returned else None,
            message=message,
            stdout=bytes(self._output.kept),
            stdout_dropped=self._output.dropped,
            wall_s=report["wall_s"],
            cpu_s=report["cpu_s"],
            max_rss_bytes=report["max_rss_bytes"],
            worker=worker,
        )

    def _cause(self, report: Mapping[str, Any]) -> tuple[Cause, str]:
        limits, code = self._limits, int(report["exit"])
        if self._asked_to_stop or len(self._result.kept) > limits.result_bytes + 1:
            return Cause.TOO_LARGE, f"the result exceeds {limits.result_bytes} bytes"
        if report["ended_by"] == "wall":
            return Cause.TIMEOUT, f"wall-clock limit of {limits.wall_s:g} s"
        if code < 0:
            return self._killed(-code, float(report["cpu_s"]))
        if code > 0 or not self._result.kept:
            return Cause.NO_RESULT, f"exited with status {code} without a result"
        return self._answer()

    def _killed(self, number: int, cpu_s: float) -> tuple[Cause, str]:
        over = cpu_s >= 0.95 * self._limits.cpu_s
        if number == signal.SIGXCPU or (number == signal.SIGKILL and over):
            return Cause.TIMEOUT, f"CPU limit of {self._limits.cpu_s:g} s"
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return Cause.KILLED, f"killed by {name}"

    def _answer(self) -> tuple[Cause, str]:
        kept = self._result.kept
        text = bytes(kept[1:2000]).decode(errors="replace").partition("\n")[0]
        match kept[:1]:
            case b"R":
                return Cause.RETURNED, ""
            case b"E":
                return Cause.RAISED, text
            case b"M":
                return Cause.MEMORY, f"memory limit of {self._limits.memory_bytes} bytes"
            case b"L":
                return Cause.TOO_LARGE, f"the result has {text[:20]} bytes, over {self._limits.result_bytes}"
            case _:
                return Cause.NO_RESULT, "the result pipe held bytes that are no result"


def _pipes() -> tuple[list[int], list[int]]:
    """(theirs, ours): job read, result write, output write; and the other ends, non-blocking."""
    (job_r, job_w), (result_r, result_w), (output_r, output_w) = os.pipe(), os.pipe(), os.pipe()
    ours = [job_w, result_r, output_r]
    for descriptor in ours:
        os.set_blocking(descriptor, False)
    return [job_r, result_w, output_w], ours
