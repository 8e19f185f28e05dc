"""One job's passage through a zygote: its pipes, what came back, and how the execution ended.

Everything read here was written by the candidate: it is bounded, never unpickled, never trusted.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits

GRACE_S = 40.0  # beyond the wall limit, before a silent zygote is given up; set-up included
CHUNK = 1 << 16
FORGED_SLACK = 4096  # the stub itself stays under the limit; more is a forgery

ADDRESSES = 4  # bytes of address space per byte of memory that an executable may touch


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


def encode_job(job: Job) -> bytes:
    """Length, JSON header, raw float64 data, executable and input: what the stub reads."""
    arrays = {name: np.ascontiguousarray(value, np.float64) for name, value in job.arrays.items()}
    header = json.dumps({
        "program": job.program, "entry_point": job.entry_point, "prelude": job.prelude,
        "arguments": dict(job.arguments), "seed": job.seed,
        "inputs": job.inputs, "returns": job.returns,
        "arrays": [(name, value.shape) for name, value in arrays.items()],
        "files": [len(job.executable), len(job.stdin)],
    }).encode()  # fmt: skip
    numbers = (value.tobytes() for value in arrays.values())
    return b"".join((struct.pack("=Q", len(header)), header, *numbers, job.executable, job.stdin))


class Exchange:
    """Feeds the job, collects result and output, waits for the zygote's report. Used once."""

    def __init__(self, control: socket.socket, job: Job, limits: Limits) -> None:
        self._control, self._limits, self._is_file = control, limits, bool(job.executable)
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
            "wall_s", "cpu_s", "memory_bytes", "scratch_bytes", "processes", "cpus")}  # fmt: skip
        allowance["execute"] = self._is_file
        if self._is_file:  # what it touches counts, in its control group and at its end
            allowance["memory_bytes"] *= ADDRESSES
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
        for descriptor, take in zip(
            self._ours[-2:], (self._take_result, self._take_output), strict=True
        ):
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
        if code > 0 and self._is_file and self._result.kept[:1] == b"R":
            return Cause.RAISED, f"exited with status {code}"
        if code > 0 or not self._result.kept:
            return Cause.NO_RESULT, f"exited with status {code} without a result"
        return self._answer()

    def _killed(self, number: int, cpu_s: float) -> tuple[Cause, str]:
        # The kernel enforces the limit on sampled ticks, which on busy cores run ahead of usage.
        over = cpu_s >= 0.5 * self._limits.cpu_s
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
                return (
                    Cause.TOO_LARGE,
                    f"the result has {text[:20]} bytes, over {self._limits.result_bytes}",
                )
            case _:
                return Cause.NO_RESULT, "the result pipe held bytes that are no result"


def _pipes() -> tuple[list[int], list[int]]:
    """(theirs, ours): job read, result write, output write; and the other ends, non-blocking."""
    (job_r, job_w), (result_r, result_w), (output_r, output_w) = os.pipe(), os.pipe(), os.pipe()
    ours = [job_w, result_r, output_r]
    for descriptor in ours:
        os.set_blocking(descriptor, False)
    return [job_r, result_w, output_w], ours
