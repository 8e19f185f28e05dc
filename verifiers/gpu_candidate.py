"""The candidate's worker: maps the shared memory, loads a program, calls it when told to.

Its own clocks, checks and copies run beside untrusted code and may all have been changed by it.
They give the fine numbers of honest programs; that nothing better than the truth is reported is
decided by `gpu_reference`, which stops this process while inputs are written and outputs are
read, and times every call from outside. Nothing here knows an expected output or a seed.

Standalone (torch, Triton and the standard library): it receives itself and what it uses as text,
because our own package cannot be seen from inside the sandbox.

Requests and replies are frames: 8 bytes of length and JSON. Descriptor 3 is the channel, 4 the
arena.
"""

from __future__ import annotations

import contextlib
import gc
import json
import linecache
import os
import socket
import struct
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import torch
import triton  # noqa: F401  (loaded while another worker is at work, not in a program's time)

CHANNEL, ARENA = 3, 4
LENGTH = struct.Struct(">Q")
AWAKE_S = 0.001  # of launches before a call: core, driver and device are warm
POISONED = 3  # freed blocks of each output's size that hold NaN
MESSAGE_CHARACTERS = 300


class Refused(Exception):
    """The output is not what was asked for."""


def receive(channel: socket.socket) -> bytes:
    """The next frame; raises EOFError when the other side has gone."""
    (length,) = LENGTH.unpack(_exactly(channel, LENGTH.size))
    return _exactly(channel, length)


def _exactly(channel: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = channel.recv(min(count - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def send(channel: socket.socket, message: object) -> None:
    """Send one frame of JSON."""
    data = json.dumps(message).encode()
    channel.sendall(LENGTH.pack(len(data)) + data)


WATCHED = (
    (torch.cuda, "synchronize"), (torch.cuda, "_sleep"), (torch.cuda, "Event"),
    (torch.cuda.Event, "record"), (torch.cuda.Event, "elapsed_time"),
    (torch.cuda.Event, "synchronize"), (torch.Tensor, "copy_"), (torch.Tensor, "normal_"),
    (torch, "allclose"), (torch, "randn"), (torch, "full_like"), (time, "perf_counter"),
    (time, "perf_counter_ns"), (json, "dumps"), (socket.socket, "sendall"),
    (torch.cuda.CUDAGraph, "replay"),
)  # fmt: skip


class Clock:
    """Host and device clocks, bound before any program is loaded."""

    def __init__(self) -> None:
        self._watched = [(owner, name, getattr(owner, name)) for owner, name in WATCHED]
        self._now = time.perf_counter
        self._event: Any = torch.cuda.Event
        self._sync: Any = torch.cuda.synchronize
        self._spin: Any = torch.cuda._sleep
        self._record: Any = torch.cuda.Event.record
        self._elapsed: Any = torch.cuda.Event.elapsed_time

    def rouse(self) -> None:
        """Keep host and device busy for a moment."""
        awake = self._now() + AWAKE_S
        while self._now() < awake:
            self._spin(1)
        self._sync()

    def time(self, function: Callable[[Any], Any], data: Any) -> tuple[Any, dict[str, float]]:
        """The result, and microseconds: until the stream's end, the device's end, on the host.

        Nothing waits longer than it must: who leaves a wait out gains it on the clock outside.
        """
        start, stream, device = (self._event(enable_timing=True) for _ in range(3))
        self._spin(1)
        self._sync()  # the device is ours
        before = self._now()
        self._record(start)
        result = function(data)
        self._record(stream)
        self._sync()
        self._record(device)
        self._sync()
        after = self._now()
        return result, {
            "stream_us": 1e3 * self._elapsed(start, stream),
            "event_us": 1e3 * self._elapsed(start, device),
            "host_us": 1e6 * (after - before),
        }

    def untouched(self) -> None:
        """Refuse a program that has replaced what it could be measured with."""
        for owner, name, original in self._watched:
            if getattr(owner, name, None) is not original:
                raise Refused(f"the program replaced {owner.__name__}.{name}")


class Worker:
    """The state between requests: the arena, the case, the program's entry point."""

    def __init__(self, arena: Any, build: Callable[[Any, Any], Any], helpers: Any) -> None:
        self.arena, self.build, self.clock = arena, build, Clock()
        self.compiled, self.recorder = helpers.compiled, helpers.recording.Recorder()
        self.recording: Any = None  # of the program's call on this case, once asked for
        self.function: Callable[[Any], Any] = self._empty
        self.inputs: list[torch.Tensor] = []
        self.outputs: list[torch.Tensor] = []
        self.still: list[torch.Tensor] = []
        self.case: dict[str, Any] = {}
        self.data: Any = None
        self.times: dict[str, float] = {}

    def _empty(self, data: Any) -> Any:
        """What calibrates a call: it costs nothing and returns tensors of the right form."""
        return self.still[0] if len(self.still) == 1 else tuple(self.still)

    def do_case(self, request: dict[str, Any]) -> dict[str, Any]:
        """Map a case's tensors."""
        self.case, self.recording = request, None
        self.inputs = [self.arena.tensor(spec) for spec in request["inputs"]]
        self.outputs = [self.arena.tensor(spec) for spec in request["outputs"]]
        self.still = []
        if self.function == self._empty:
            self.still = [torch.zeros_like(out) for out in self.outputs]
        return {}

    def do_load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Execute the program as a module of its own, with what an earlier process compiled."""
        self.still = []
        self.compiled.unpack(request["compiled"])
        name, source, entry = "candidate", request["source"], request["entry"]
        path = os.path.join(tempfile.gettempdir(), f"{name}.py")
        with open(path, "w", encoding="utf-8") as file:  # Triton reads its functions' source
            file.write(source)
        linecache.checkcache(path)
        sys.modules[name] = module = types.ModuleType(name)
        module.__file__ = path
        exec(compile(source, path, "exec"), module.__dict__)
        function = module.__dict__.get(entry)
        if not callable(function):
            raise Refused(f"the program defines no function {entry}")
        self.function = function
        return {}

    def do_compiled(self, request: dict[str, Any]) -> dict[str, Any]:
        """What Triton and PyTorch have compiled, for another process of the same program."""
        return {"compiled": self.compiled.pack()}

    def do_record(self, request: dict[str, Any]) -> dict[str, Any]:
        """Record the program's call on this case; it is played from now on."""
        self.recording = self.recorder.record(self.function, self._fresh())
        return {}

    def _fresh(self) -> Any:
        return self.build(self.case["data"], self.inputs)

    def do_unload(self, request: dict[str, Any]) -> dict[str, Any]:
        """Forget the program; its memory goes back to the device."""
        self.function, self.recording = self._empty, None
        torch.cuda.empty_cache()
        return {}

    def do_prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Call on what the last call got, so that the next launches at a loop's speed; leave NaN
        in freed blocks of the outputs' sizes, and a device that is idle and awake."""
        if request["warm"]:
            (self.recording or self.function)(self._fresh())
        if self.recording:
            self.recording.poison()
        blocks = [torch.full_like(out, torch.nan) for out in self.outputs for _ in range(POISONED)]
        del blocks
        gc.collect()
        self.data = self._fresh()
        self.clock.rouse()
        return {}

    def do_call(self, request: dict[str, Any]) -> dict[str, Any]:
        """One timed call; its outputs are copied into the arena."""
        result, self.times = self.clock.time(self.recording or self.function, self.data)
        self._deliver(result)
        torch.cuda.synchronize()
        return {}

    def do_times(self, request: dict[str, Any]) -> dict[str, Any]:
        """What the last call took, unless its clocks were replaced or something goes on."""
        self.clock.untouched()
        if threading.active_count() > 1:
            raise Refused(f"{threading.active_count() - 1} threads of the program are running")
        return dict(self.times)

    def do_profile(self, request: dict[str, Any]) -> dict[str, Any]:
        """The kernels of one untimed call and their total time in microseconds."""
        from torch.profiler import ProfilerActivity, profile

        data = self._fresh()
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            self.function(data)
            torch.cuda.synchronize()
        events = [e for e in seen.events() if str(e.device_type).endswith("CUDA")]
        total = sum(e.time_range.elapsed_us() for e in events)
        return {"kernels": len(events), "kernel_us": total}

    def _deliver(self, result: Any) -> None:
        parts = result if type(result) is tuple or type(result) is list else (result,)
        if len(parts) != len(self.outputs):
            raise Refused(f"{len(self.outputs)} tensors must be returned, not {len(parts)}")
        for part, out, alias in zip(parts, self.outputs, self.case["may_alias"], strict=True):
            self._check(part, out, alias)
            out.copy_(part)

    def _check(self, part: Any, out: torch.Tensor, may_alias: bool) -> None:
        if type(part) is not torch.Tensor:
            raise Refused(f"the output is a {type(part).__name__}, not a plain torch.Tensor")
        found = (part.device, tuple(part.shape), part.dtype, part.layout)
        wanted = (out.device, tuple(out.shape), out.dtype, out.layout)
        if found != wanted:
            raise Refused(f"the output is {_said(found)}, wanted is {_said(wanted)}")
        if not part.is_contiguous() or part.is_conj() or part.is_neg():
            raise Refused(f"the output is not contiguous: strides {tuple(part.stride())}")
        storage = part.untyped_storage().data_ptr()
        if not may_alias and any(storage == t.untyped_storage().data_ptr() for t in self.inputs):
            raise Refused("the output lies in the memory of an input")


def _said(form: tuple[Any, ...]) -> str:
    return " ".join(map(str, form[:3]))


def answer(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """The reply to one request; what the program raises is a reply too."""
    try:
        return dict(getattr(worker, f"do_{request['do']}")(request))
    except torch.OutOfMemoryError as error:
        return {"error": _line(error), "kind": "memory"}
    except Refused as error:
        return {"error": str(error)[:MESSAGE_CHARACTERS], "kind": "refused"}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {_line(error)}", "kind": "raised"}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:MESSAGE_CHARACTERS]


def _be_quiet() -> None:
    """Nothing of ours runs or costs time beside a call."""
    with contextlib.suppress(ImportError):  # torch.compile draws a bar, whose thread stays
        from tqdm import tqdm

        tqdm.monitor_interval = 0
    gc.freeze()  # a collection before each call looks at the program's objects only


def main(arena_type: Callable[[int, int], Any], size: int, build: Any, helpers: Any) -> None:
    """Serve until the channel ends. A failed device cannot be used again, so that ends it too."""
    channel = socket.socket(fileno=CHANNEL)
    try:
        torch.zeros(1, device="cuda")
        worker = Worker(arena_type(size, ARENA), build, helpers)
        os.close(ARENA)
        _be_quiet()
        send(channel, {"ready": True, "pid": os.getpid()})
    except Exception as error:
        send(channel, {"error": f"{type(error).__name__}: {_line(error)}", "kind": "start"})
        return
    while True:
        try:
            request = json.loads(receive(channel))
        except EOFError:
            return
        send(channel, answer(worker, request))
