"""One container seen from the host: start it, hand it jobs, read bounded replies, remove it.

Raises `ContainerFailed` when the container misbehaves; whatever a candidate does is an
`Execution`. A container that its engine killed for memory is the candidate's doing.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import replace
from typing import Any

from eurekaflow.verifiers.docker_engine import Engine, Recipe, Shape
from eurekaflow.verifiers.docker_frames import (
    FrameError,
    decode,
    encode,
    execution_of,
    most_bytes,
    pack,
    read_frame,
)
from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits

START_S = 180.0  # importing scipy in a container on a loaded machine
GRACE_S = 45.0  # beyond the wall limit: what the zygote is granted, and a little
HELLO_BYTES = 1 << 16
ENDED_S = 5.0  # for the engine to say how a container ended whose stream has ended
STDOUT, STREAM_HEADER = 1, 8
CLEAN = (Cause.RETURNED, Cause.RAISED)  # after any other end the container is not used again


class ContainerFailed(RuntimeError):
    """The container could not be started, ended, or sent what is no reply."""


class Container:
    """A started container. Not thread-safe: one job at a time."""

    def __init__(self, engine: Engine, shape: Shape, recipe: Recipe) -> None:
        """Create and start it without waiting. Raises SandboxUnavailable, ContainerFailed."""
        self.shape = shape
        self.jobs = 0
        self.spent = False
        self.layers: tuple[str, ...] | None = None
        self._engine = engine
        self.id = engine.create(shape, recipe)
        self._stream: socket.socket | None = None
        self._holder: Any = None  # docker's file around the socket, which closes it when collected
        self._frame = bytearray()
        try:
            self._holder = engine.api.attach_socket(
                self.id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            )
            self._stream = getattr(self._holder, "_sock", self._holder)
            engine.api.start(self.id)
        except (engine.errors, OSError) as problem:
            self.close()
            raise ContainerFailed(f"a container did not start: {problem}") from None

    def wait_ready(self) -> tuple[str, ...]:
        """The layers that it has proven; raises ContainerFailed."""
        if self.layers is None:
            answer = self._reply(time.monotonic() + START_S, most=HELLO_BYTES)
            self.layers = tuple(answer["layers"])
        return self.layers

    def run(self, job: Job, limits: Limits) -> Execution:
        """Run one job to its end. Raises ContainerFailed."""
        self.wait_ready()
        self.jobs += 1
        deadline = time.monotonic() + limits.wall_s + GRACE_S
        try:
            self._send(pack(encode(job=job, limits=limits)), deadline)
            answer = self._reply(deadline, most=most_bytes(limits))
            execution = execution_of(answer, limits)
        except ContainerFailed:
            if not self._out_of_memory():
                raise
            self.spent = True
            message = f"memory limit of {limits.memory_bytes} bytes, enforced on the container"
            return Execution(cause=Cause.MEMORY, message=message, worker=self.id[:12])
        except FrameError as problem:
            raise ContainerFailed(str(problem)) from None
        self.spent = bool(answer.get("spent")) or execution.cause not in CLEAN
        return replace(execution, worker=self.id[:12])

    def _send(self, data: bytes, deadline: float) -> None:
        assert self._stream is not None
        try:
            self._stream.settimeout(max(0.001, deadline - time.monotonic()))
            self._stream.sendall(data)
        except OSError as problem:
            raise ContainerFailed(
                f"the container {self.id[:12]} takes no job: {problem}"
            ) from None

    def _reply(self, deadline: float, *, most: int) -> dict[str, Any]:
        try:
            answer = decode(read_frame(lambda count: self._read(count, deadline), most=most))
        except FrameError as problem:
            raise ContainerFailed(str(problem)) from None
        if "error" in answer:
            raise ContainerFailed(str(answer["error"])[:2000])
        return answer

    def _read(self, count: int, deadline: float) -> bytes:
        """`count` bytes of its stdout; its stderr is dropped, but for the last words."""
        last_words = b""
        while len(self._frame) < count:
            header = self._exactly(STREAM_HEADER, deadline, last_words)
            data = self._exactly(int.from_bytes(header[4:], "big"), deadline, last_words)
            if header[0] == STDOUT:
                self._frame += data
            else:
                last_words = data[-500:]
        taken = bytes(self._frame[:count])
        del self._frame[:count]
        return taken

    def _exactly(self, count: int, deadline: float, last_words: bytes) -> bytes:
        assert self._stream is not None
        data = bytearray()
        while len(data) < count:
            try:
                self._stream.settimeout(max(0.001, deadline - time.monotonic()))
                chunk = self._stream.recv(min(count - len(data), 1 << 20))
            except OSError as problem:
                raise ContainerFailed(
                    f"the container {self.id[:12]} is silent: {problem}"
                ) from None
            if not chunk:
                words = last_words.decode(errors="replace").strip().rpartition("\n")[2]
                raise ContainerFailed(f"the container {self.id[:12]} ended: {words}")
            data += chunk
        return bytes(data)

    def _out_of_memory(self) -> bool:
        """Whether the engine's memory limit ended it; its stream ends before the engine knows."""
        deadline = time.monotonic() + ENDED_S
        with contextlib.suppress(self._engine.errors, OSError):
            while True:
                state = self._engine.api.inspect_container(self.id)["State"]
                if state.get("OOMKilled"):
                    return True
                if not state.get("Running") or time.monotonic() > deadline:
                    return False
                time.sleep(0.05)
        return False

    def kill(self) -> None:
        """End it from any thread; its job fails."""
        with contextlib.suppress(self._engine.errors, OSError):
            self._engine.api.remove_container(self.id, force=True)

    def close(self) -> None:
        """Remove it and let go of the connection."""
        self.kill()
        for held in (self._stream, self._holder):
            if held is not None:
                with contextlib.suppress(OSError):
                    held.close()
