"""The host's side of one verifier worker: start, ask with a deadline, notice its death."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, Any

from eurekaflow.verifiers.judge_worker import LENGTH

_START_S = 60.0  # importing numpy and scipy on a busy machine
_REPLY_BYTES = 64 << 20
_OWN_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}


class JudgeUnavailable(RuntimeError):
    """Verifier workers cannot be had; the message says why. Never a statement about an answer."""


class WorkerLost(Exception):
    """A worker ended or fell silent while it held an answer."""

    def __init__(self, message: str, *, over_limits: bool, from_outside: bool) -> None:
        super().__init__(message)
        self.over_limits = over_limits  # its wall-clock or CPU limit
        self.from_outside = from_outside  # killed, not crashed


class Worker:
    """One running worker process. Not thread-safe: its holder uses it alone."""

    def __init__(self, *, memory_bytes: int, cpu_s: float) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-I", "-m", "eurekaflow.verifiers.judge_worker"]
        try:
            self._process = subprocess.Popen(
                [*command, str(memory_bytes), str(cpu_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={},
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise JudgeUnavailable(f"cannot start a verifier worker: {error}") from error
        self._await_ready()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(
        self, header: dict[str, Any], payload: bytes, wall_s: float
    ) -> tuple[dict[str, Any], bytes]:
        """The worker's reply to one request; raises WorkerLost.

        `wall_s` starts when the problem is loaded. Raises JudgeUnavailable when it cannot be.
        """
        self._load(header)
        deadline = time.monotonic() + wall_s
        self._send(LENGTH.pack(len(payload)) + payload, deadline)
        reply = json.loads(self._frame(deadline))
        return reply, self._frame(deadline)

    def _load(self, header: dict[str, Any]) -> None:
        deadline = time.monotonic() + _START_S
        data = json.dumps(header).encode()
        try:
            self._send(LENGTH.pack(len(data)) + data, deadline)
            trouble = self._frame(deadline).decode()
        except WorkerLost as lost:  # never the answer's doing: it has not been sent
            raise WorkerLost(str(lost), over_limits=False, from_outside=True) from lost
        if trouble:
            raise JudgeUnavailable(
                f"verifier workers cannot load the problem {header['problem']!r}: {trouble}"
            )

    def stop(self) -> None:
        """End an idle worker: its input ends, so it leaves; killed if it does not."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)
        self.kill()

    def kill(self) -> None:
        """End the worker now and free its descriptors."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _await_ready(self) -> None:
        try:
            self._frame(time.monotonic() + _START_S)
        except WorkerLost as lost:
            self._errors.seek(0)
            said = self._errors.read()[-2000:].decode(errors="replace").strip()
            self.kill()
            raise JudgeUnavailable(f"a verifier worker did not start: {lost}\n{said}") from lost

    def _send(self, data: bytes, deadline: float) -> None:
        assert self._process.stdin is not None
        descriptor = self._process.stdin.fileno()
        os.set_blocking(descriptor, False)
        view = memoryview(data)
        while view:
            self._wait(descriptor, selectors.EVENT_WRITE, deadline)
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self._lost() from None

    def _frame(self, deadline: float) -> bytes:
        (length,) = LENGTH.unpack(self._read(LENGTH.size, deadline))
        if length > _REPLY_BYTES:
            raise WorkerLost("its reply is too large", over_limits=True, from_outside=False)
        return self._read(length, deadline)

    def _read(self, count: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor, data = self._process.stdout.fileno(), bytearray()
        while len(data) < count:
            self._wait(descriptor, selectors.EVENT_READ, deadline)
            chunk = os.read(descriptor, min(count - len(data), 1 << 20))
            if not chunk:
                raise self._lost()
            data += chunk
        return bytes(data)

    def _wait(self, descriptor: int, event: int, deadline: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise WorkerLost("it fell silent", over_limits=True, from_outside=False)

    def _lost(self) -> WorkerLost:
        """Why the pipe ended: waits for the exit status."""
        try:
            status = self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            return WorkerLost("it closed its pipe", over_limits=False, from_outside=False)
        if status >= 0:
            message = f"it ended with status {status}"
            return WorkerLost(message, over_limits=False, from_outside=False)
        ended = signal.Signals(-status)
        return WorkerLost(
            f"it ended by {ended.name}",
            over_limits=ended is signal.SIGXCPU,
            from_outside=ended not in _OWN_CRASHES,
        )
