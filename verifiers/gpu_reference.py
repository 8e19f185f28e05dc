"""The trusted GPU worker: makes inputs, knows the expected outputs, times and compares.

One call of a candidate, seen from here:

1. its process is stopped (SIGSTOP); fresh inputs and weights from the operating system's entropy
   are drawn into memory that it does not have, and the expected outputs are computed and timed:
   the interleaved reference of the reported ratio, which a kernel still running slows down;
2. it goes on and calls its program on the inputs of the call before, so that code and caches are
   as in a loop: an idle core's first launches take twice as long, differently in every process;
3. it is stopped again for the moment in which the inputs are copied into the shared memory, the
   outputs' place is filled with NaN and the L2 cache overwritten. How long that takes is known,
   too: a kernel that waits for the inputs would be seen by it;
4. the clock starts, the process goes on, is told to call, answers; the outputs are copied out of
   the shared memory, and the clock stops. Work that is still under way then is in the time, or
   its result is missing. What an empty call costs this way is known and subtracted (`outer_us`).
   It is little, because whoever forges the inner clocks can gain no more than that;
5. it is stopped; outputs are compared, inputs are compared with what was drawn.

Numbers only: whether they add up to a verdict is the supervisor's to say (`gpu_verdict`).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import secrets
import socket
import sys
import time
from typing import Any

import torch

from eurekaflow.verifiers.gpu_attached import Attached, CandidateFailed, finite, receive_ready
from eurekaflow.verifiers.gpu_compare import mismatch
from eurekaflow.verifiers.gpu_device import bandwidth, device, event, libraries
from eurekaflow.verifiers.gpu_frames import receive, send
from eurekaflow.verifiers.gpu_memory import ALIGNMENT, Arena, place

Tensors = dict[str, torch.Tensor]
TASKS = {"trimul": "trimul_task", "mla-decode": "mla_task"}
LEFT_BYTES = 128 << 20  # of the device, for the next
KEPT_BYTES = 1 << 28  # of what a program has compiled, packed
TIMES = ("stream_us", "event_us", "host_us")


class Worker:
    """The reference worker's state: the task, the arena, the attached candidate, calibrations."""

    def __init__(self) -> None:
        self.candidate: Attached | None = None
        self.kept = ""  # what a program has compiled; only processes of that program read it
        self.calibrated: dict[str, tuple[float, dict[str, float]]] = {}  # when, and what

    def do_open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take up a task: allocate what its largest case needs; say what device this is."""
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.zeros(1, device="cuda")
        name = f"eurekaflow.verifiers.{TASKS[request['task']]}"
        self.task: Any = importlib.import_module(name)
        cases = [*self.task.BENCHMARKS, *self.task.TESTS, *self.task.HIDDEN_SHAPES]
        self.arena = Arena(max(self._layout(case)[2] for case in cases))
        cache = torch.cuda.get_device_properties(0).L2_cache_size
        self.flush = torch.empty(max(1 << 28, 2 * cache) // 4, device="cuda")
        return {
            "size": self.arena.size,
            "libraries": libraries(),
            **device(),
            "bandwidth": bandwidth(),
        }

    def do_attach(self, request: dict[str, Any], channel: socket.socket) -> dict[str, Any]:
        """Meet a candidate's worker whose program is not loaded yet."""
        self.candidate = Attached(channel, int(request["pid"]))
        ready = receive_ready(self.candidate, request["timeout_s"])
        return {"ready": ready}

    def do_detach(self, request: dict[str, Any]) -> dict[str, Any]:
        """Forget the candidate; the supervisor ends it."""
        if self.candidate is not None:
            self.candidate.channel.close()
        self.candidate = None
        return {}

    def do_unload(self, request: dict[str, Any]) -> dict[str, Any]:
        """Have the program forgotten: the same process serves the next one."""
        return self._theirs.ask({"do": "unload"}, request["timeout_s"])

    def do_load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Have the program loaded."""
        load = {name: request[name] for name in ("do", "source", "entry")}
        compiled = self.kept if request["kept"] else ""
        return self._theirs.ask({**load, "compiled": compiled}, request["timeout_s"])

    def do_keep(self, request: dict[str, Any]) -> dict[str, Any]:
        """Keep what the program has compiled, for further processes of it; "" if it is lost."""
        self.kept = ""
        with contextlib.suppress(CandidateFailed):
            reply = self._theirs.ask({"do": "compiled"}, request["timeout_s"], KEPT_BYTES)
            self.kept = str(reply.get("compiled", ""))
        return {}

    def do_calibrate(self, request: dict[str, Any]) -> dict[str, Any]:
        """What an empty call costs on this case, and the reference's time; before the program."""
        case, key = self._case(request), json.dumps([request["case"], request["flush"]])
        known = self.calibrated.get(key)
        if known is None or time.monotonic() - known[0] > request["recent_s"]:
            self._show(case)
            self._call(case, request, check=False)
            calls = [self._call(case, request, check=False) for _ in range(request["calls"])]
            middle = {
                name: sorted(call[name] for call in calls)[len(calls) // 2] for name in calls[0]
            }
            self.calibrated[key] = known = time.monotonic(), middle
        return known[1]

    def do_measure(self, request: dict[str, Any]) -> dict[str, Any]:
        """One untimed call and `calls` timed ones on a case, each on inputs of its own."""
        case = self._case(request)
        self._show(case)
        first = self._call(case, {**request, "timeout_s": request["compile_s"]})
        if request.get("twice"):
            self._call(case, request, fresh=False)
        if request.get("record"):
            self._record(case, request)
        threads = self._theirs.threads()
        calls = [self._call(case, request) for _ in range(request["calls"])]
        self._nothing_left(threads)
        return {"calls": calls, "first": first, "bytes": self.task.traffic_bytes(case),
                "operations": self.task.operations(case)}  # fmt: skip

    def _record(self, case: Any, request: dict[str, Any]) -> None:
        """Have the call recorded, and played once. Raises CandidateFailed."""
        try:
            self._theirs.ask({"do": "record"}, request["compile_s"])
        except CandidateFailed as failure:
            kind = "unrecorded" if failure.kind == "raised" else failure.kind
            raise CandidateFailed(kind, str(failure)) from None
        self._call(case, request)

    def do_profile(self, request: dict[str, Any]) -> dict[str, Any]:
        """The kernels of one call on a case, as the candidate's own profiler lists them."""
        case = self._case(request)
        self._show(case)
        self._draw(case)
        self._hand_over(flush=False)
        return self._theirs.ask({"do": "profile"}, request["timeout_s"])

    @property
    def _theirs(self) -> Attached:
        if self.candidate is None:
            raise CandidateFailed("died", "no candidate is attached")
        return self.candidate

    def _case(self, request: dict[str, Any]) -> Any:
        return self.task.Case(**request["case"])

    def _layout(self, case: Any) -> tuple[Any, Any, int]:
        ins, end = place([(dtype, shape) for _, dtype, shape in self.task.inputs(case)])
        outs, end = place(self.task.outputs(case), end)
        return ins, outs, end + ALIGNMENT

    def _show(self, case: Any) -> None:
        """Map the case on both sides."""
        ins, outs, _ = self._layout(case)
        names = [name for name, _, _ in self.task.inputs(case)]
        self.inputs = {
            name: self.arena.tensor(spec) for name, spec in zip(names, ins, strict=True)
        }
        self.outputs = [self.arena.tensor(spec) for spec in outs]
        self.snapshots = [torch.empty_like(out) for out in self.outputs]
        self.drawn = {name: torch.empty_like(tensor) for name, tensor in self.inputs.items()}
        self.called = False  # on this case
        request = {"do": "case", "inputs": ins, "outputs": outs,
                   "data": self.task.recipe(case), "may_alias": self.task.MAY_ALIAS}  # fmt: skip
        self._theirs.ask(request, 30.0)

    def _draw(self, case: Any) -> None:
        generator = torch.Generator(device="cuda").manual_seed(secrets.randbits(63))
        self.task.fill(case, self.drawn, generator)

    def _call(
        self, case: Any, request: dict[str, Any], *, fresh: bool = True, check: bool = True
    ) -> dict[str, float]:
        """One call, by the five steps above. Raises CandidateFailed."""
        theirs, patience = self._theirs, request["timeout_s"]
        theirs.stop()
        if fresh:
            self._draw(case)
            self.wanted, self.reference_us = self._expected(case)
        theirs.go_on()
        theirs.ask({"do": "prepare", "warm": self.called}, patience)
        theirs.stop()
        handed = self._hand_over(request["flush"])
        outer = self._timed(patience)
        theirs.stop()
        worst = self._compare() if check else 0.0
        theirs.go_on()
        said = theirs.ask({"do": "times"}, patience)
        times = {name: finite(said.get(name)) for name in TIMES}
        return {**times, "outer_us": outer, "handed_us": handed,
                "reference_us": self.reference_us, "worst": worst}  # fmt: skip

    def _hand_over(self, flush: bool) -> float:
        """Inputs into the shared memory, NaN where outputs go, another L2; microseconds."""
        torch.cuda.synchronize()
        started = time.perf_counter()
        for name, tensor in self.drawn.items():
            self.inputs[name].copy_(tensor)
        for out in self.outputs:
            out.fill_(float("nan"))
        if flush:
            self.flush.fill_(1.0)
        torch.cuda.synchronize()
        self.called = True
        return 1e6 * (time.perf_counter() - started)

    def _timed(self, timeout_s: float) -> float:
        started = time.perf_counter()
        self._theirs.go_on()
        self._theirs.ask({"do": "call"}, timeout_s)
        for snapshot, out in zip(self.snapshots, self.outputs, strict=True):
            snapshot.copy_(out)
        torch.cuda.synchronize()
        return 1e6 * (time.perf_counter() - started)

    def _expected(self, case: Any) -> tuple[list[torch.Tensor], float]:
        start, end = event(), event()
        torch.cuda.synchronize()
        start.record()
        found = self.task.expected(case, self.drawn)
        end.record()
        torch.cuda.synchronize()
        return found, 1e3 * start.elapsed_time(end)

    def _compare(self) -> float:
        """The largest |out - ref| / (atol + rtol |ref|). Raises CandidateFailed beyond 1."""
        for name, drawn in self.drawn.items():
            same = torch.equal(self.inputs[name].view(torch.uint8), drawn.view(torch.uint8))
            if name not in self.task.CHANGED_BY_A_CALL and not same:
                raise CandidateFailed("mutated", f"the call changed its input {name}")
        worst = 0.0
        for i, (out, ref) in enumerate(zip(self.snapshots, self.wanted, strict=True)):
            bad, error = mismatch(out, ref, rtol=self.task.RTOL, atol=self.task.ATOL)
            if bad:
                which = "" if len(self.wanted) == 1 else f" {i}"
                message = f"output{which} is wrong in {bad} of {ref.numel()} elements"
                raise CandidateFailed("wrong", message)
            worst = max(worst, error)
        return worst

    def _nothing_left(self, threads: int) -> None:
        self._theirs.ask({"do": "prepare", "warm": False}, 30.0)
        if (now := self._theirs.threads()) > threads:
            raise CandidateFailed("alive", f"{now - threads} threads are left of its calls")
        if children := self._theirs.children():
            raise CandidateFailed("alive", f"{children} processes are left of its calls")
        if (free := torch.cuda.mem_get_info()[0]) < LEFT_BYTES:
            raise CandidateFailed("memory", f"it leaves {free >> 20} MiB of the device's memory")


def answer(worker: Worker, request: dict[str, Any], channel: socket.socket) -> dict[str, Any]:
    """The reply to one request: numbers, or what the candidate did wrong."""
    method = getattr(worker, f"do_{request['do']}")
    try:
        if request["do"] == "attach":
            _, found, _, _ = socket.recv_fds(channel, 1, 1)
            reply: dict[str, Any] = method(request, socket.socket(fileno=found[0]))
        else:
            reply = method(request)
    except CandidateFailed as failure:
        return {"failed": failure.kind, "message": str(failure)}
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {"failed": "memory", "message": "it left too little device memory to check it"}
    return reply


def main(descriptor: int) -> None:
    """Serve until the supervisor closes the channel."""
    channel = socket.socket(fileno=descriptor)
    worker = Worker()
    while True:
        try:
            request = json.loads(receive(channel))
        except EOFError:
            return
        reply = answer(worker, request, channel)
        send(channel, reply)
        if request["do"] == "open":
            shared = worker.arena.descriptor()
            socket.send_fds(channel, [b"."], [shared])
            os.close(shared)


if __name__ == "__main__":
    main(int(sys.argv[1]))
