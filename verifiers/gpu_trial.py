"""The supervisor of a kernel's trial: starts the workers, walks the plan, owns the verdict.

A trial is tests (right on every shape), hidden shapes (strict mode), timed cases; these again in
further processes, where the plan wants more than one. One trial at a time on a device. Whatever a
candidate does ends its own worker only; the reference worker stays for the next one and is
replaced when it is lost.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from eurekaflow.verifiers import gpu_clocks, gpu_verdict
from eurekaflow.verifiers.contest_trial import Trial
from eurekaflow.verifiers.gpu_phase import CAUSES, OUTCOMES, Failed, Phase, Unrecorded
from eurekaflow.verifiers.gpu_plan import Plan, said
from eurekaflow.verifiers.gpu_process import Candidate, Reference, WorkerEnded
from eurekaflow.verifiers.gpu_verdict import STRICT, Unbelievable
from eurekaflow.verifiers.problem import Outcome, Verdict
from eurekaflow.verifiers.sandbox import Cause, Execution, SandboxUnavailable

OPEN_S, START_S = 120.0, 120.0
SERVES = 50  # programs of ours in one process: its seconds and its memory are bounded
EMPTY_CALLS = 7
AGAIN = 3  # times that a case is measured again
RECENT_S = 600.0  # age of a calibration that is still believed: clocks and temperature drift


@dataclass
class Bench:
    """One device with its reference worker, kept between trials. Safe to share among threads.

    Without walls (`confined`) only programs of our own are tried; one worker serves those while
    all goes well, and `cache` is a folder in which what they compile is kept.
    """

    task: str
    confined: bool = True
    cache: str = ""
    spares: int = 4  # workers that load torch while a program is compiled, when the last is taken
    device: dict[str, Any] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    _reference: Reference | None = None
    _arena: int = -1
    _serving: Candidate | None = None
    _waiting: list[Candidate] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def trial(self, program: str, plan: Plan) -> Trial:
        """Try a program. Raises SandboxUnavailable when the device or its workers are lost."""
        with self._lock:
            started = time.monotonic()
            try:
                verdict, output = self._pooled(program, plan)
            except Unrecorded:
                verdict, output = self._pooled(program, replace(plan, record=False))
            execution = Execution(
                cause=CAUSES.get(verdict.outcome, Cause.RETURNED),
                message=verdict.message,
                stdout=output,
                wall_s=time.monotonic() - started,
            )
            tail = output[-500:].decode(errors="replace").replace("\x00", "")
            return Trial(verdict=replace(verdict, stdout=tail), execution=execution)

    def open(self) -> dict[str, Any]:
        """Start the reference worker; what the device is."""
        if self._reference is None:
            self._reference = Reference()
            self.device = self._ask({"do": "open", "task": self.task}, OPEN_S)
            self._arena = self._reference.descriptor()
        return self.device

    def start_one(self) -> Candidate:
        """A candidate's worker that starts in the background."""
        self.open()
        return Candidate(
            self._arena,
            size=self.device["size"],
            libraries=self.device["libraries"],
            confined=self.confined,
            cache=self.cache,
        )

    def check(self, plan: Plan) -> None:
        """A fresh worker makes empty calls on the smallest test. Raises SandboxUnavailable."""
        case = (*plan.tests, *plan.benchmarks)[0]

        def empty() -> Verdict:
            self._empty(case, replace(plan, mode=STRICT), recent_s=0.0)
            return Verdict(outcome=Outcome.VALID)

        with self._lock:
            verdict, output = self._attended(empty)
        if verdict.outcome is not Outcome.VALID:
            said = output[-300:].decode(errors="replace")
            raise SandboxUnavailable(f"an empty call fails: {verdict.message} {said}")

    def close(self) -> None:
        """End every worker."""
        for candidate in (*self._waiting, *([self._serving] if self._serving else [])):
            candidate.close()
        if self._reference is not None:
            self._reference.close()
            if self._arena >= 0:
                os.close(self._arena)
        self._reference, self._serving, self._waiting, self._arena = None, None, [], -1

    def _pooled(self, program: str, plan: Plan) -> tuple[Verdict, bytes]:
        """The verdict of all its processes, each fresh, and what the last one printed."""
        verdict, output = self._attended(lambda: self._measure(program, plan))
        found = [verdict.metrics]
        while verdict.outcome is Outcome.VALID and len(found) < plan.processes:
            if self._serving is not None:
                self._let_go(self._serving)
                self._serving = None
            verdict, output = self._attended(lambda: self._measure_again(program, plan))
            found.append(verdict.metrics)
        if verdict.outcome is not Outcome.VALID:
            return verdict, output
        metrics = gpu_verdict.pooled(found)
        return replace(verdict, value=-metrics["score_us"], metrics=metrics), output

    def _attended(self, measure: Callable[[], Verdict]) -> tuple[Verdict, bytes]:
        """What a measurement with a worker of its own gives, and what that printed."""
        candidate, self._serving = self._serving, None
        try:
            if candidate is None:
                candidate = self._waiting.pop(0) if self._waiting else self.start_one()
                self._attach(candidate)
            verdict = _verdict(measure)
            self._keep(candidate, verdict)
            return verdict, candidate.output()
        except WorkerEnded as lost:
            self.close()
            raise SandboxUnavailable(f"{lost}; run `eureka doctor`") from lost
        finally:
            if candidate is not None and self._serving is not candidate:
                self._let_go(candidate)

    def _keep(self, candidate: Candidate, verdict: Verdict) -> None:
        """The worker serves the next program too, if both are ours and this one went well."""
        candidate.served += 1
        if self.confined or verdict.outcome is not Outcome.VALID or candidate.served >= SERVES:
            return
        with contextlib.suppress(Failed):
            self._ask({"do": "unload", "timeout_s": OPEN_S}, OPEN_S + 10)
            self._serving = candidate

    def _let_go(self, candidate: Candidate) -> None:
        candidate.close()
        if self._reference is not None:
            self._reference.ask({"do": "detach"}, timeout_s=OPEN_S)

    def _attach(self, candidate: Candidate) -> None:
        assert self._reference is not None
        pid = candidate.wait_ready()
        request = {"do": "attach", "pid": pid, "timeout_s": START_S}
        reply = self._reference.ask(
            request, timeout_s=START_S + 10, descriptors=(candidate.channel.fileno(),)
        )
        if "failed" in reply:
            said = candidate.output()[-300:].decode(errors="replace")
            raise SandboxUnavailable(f"a GPU worker does not start: {reply['message']} {said}")

    def _measure(self, program: str, plan: Plan) -> Verdict:
        """Tests and timed cases in one process; what it has compiled is kept for others."""
        self._quieten()
        empty = [self._empty(case, plan) for case in plan.benchmarks]
        if (missing := plan.processes - 1 - len(self._waiting)) > 0 or not self._waiting:
            self._waiting += [self.start_one() for _ in range(max(missing, self.spares))]
        phase = Phase("loading and testing", plan.phase_s)
        self._load(program, plan)
        for kind, cases in (("test", plan.tests), ("hidden shape", plan.hidden)):
            for number, case in enumerate(cases):
                request = {**plan.common, "calls": 0, "twice": number == 0}
                self._on(f"{kind} {number}", case, phase.within(request))
        verdict = self._timed(plan, empty)
        if plan.processes > 1 and self.confined:
            self._ask({"do": "keep", "timeout_s": plan.call_s}, plan.call_s + 10)
        return verdict

    def _measure_again(self, program: str, plan: Plan) -> Verdict:
        """The timed cases alone, in another process, with what the first one has compiled."""
        empty = [self._empty(case, plan, recent_s=0.0) for case in plan.benchmarks]
        self._load(program, plan, kept=self.confined)
        return self._timed(replace(plan, profile=False), empty)

    def _load(self, program: str, plan: Plan, *, kept: bool = False) -> None:
        load = {"do": "load", "source": program, "entry": plan.entry, "kept": kept}
        self._ask({**load, "timeout_s": plan.compile_s}, plan.compile_s + 10)

    def _timed(self, plan: Plan, empty: list[dict[str, float]]) -> Verdict:
        """The timed cases in the process that is attached. Raises Failed."""
        self._quieten()
        timings, phase = [], Phase("the timed cases", plan.phase_s)
        for number, (case, calibrated) in enumerate(zip(plan.benchmarks, empty, strict=True)):
            timings.append(self._case(f"case {number}", case, phase, calibrated, plan))
        metrics = {**gpu_verdict.metrics(timings, plan.scored, plan.mode), **gpu_clocks.now()}
        metrics["recorded"] = float(plan.record)
        if plan.profile and plan.mode == STRICT:
            metrics |= self._profiled(plan, timings)
        return Verdict(outcome=Outcome.VALID, value=-metrics["score_us"], metrics=metrics)

    def _quieten(self) -> None:
        """Wait for workers that still load: beside them a host's launches take longer."""
        for worker in self._waiting:
            worker.wait_loaded()

    def _empty(
        self, case: dict[str, Any], plan: Plan, *, recent_s: float = RECENT_S
    ) -> dict[str, float]:
        """What an empty call costs on a case, before any program is loaded."""
        request = {"do": "calibrate", "case": case, "calls": EMPTY_CALLS, "recent_s": recent_s}
        return self._ask({**request, **plan.common}, 600.0)

    def _on(self, name: str, case: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
        try:
            budget = request["compile_s"] + 600.0
            return self._ask({"do": "measure", "case": case, **request}, budget)
        except Failed as failure:
            message = f"{name} {said(case)}: {failure}"
            raise Failed(failure.outcome, message) from None

    def _case(
        self, name: str, case: dict[str, Any], phase: Phase, empty: dict[str, float], plan: Plan
    ) -> gpu_verdict.Timing:
        """A case's time, measured again where it is not believed. Raises Failed.

        A hiccup of the host does not come again and again; what a program does to its clocks does.
        """
        request, doubt = {**plan.common, "calls": plan.calls, "record": plan.record}, ""
        for _ in range(1 + AGAIN):
            reply = self._on(name, case, phase.within(request))
            try:
                return self._timing(reply, empty, plan)
            except Unbelievable as reason:
                doubt = str(reason)
        raise Failed(Outcome.EXPLOIT, f"{name} {said(case)}: {doubt}")

    def _timing(
        self, reply: dict[str, Any], empty: dict[str, float], plan: Plan
    ) -> gpu_verdict.Timing:
        """What the calls add up to. Raises Unbelievable."""
        floor = gpu_verdict.floor_us(
            traffic=reply["bytes"],
            operations=reply["operations"],
            bandwidth=self.device["bandwidth"],
            gpu=self.device["gpu"],
        )
        return gpu_verdict.timing(reply["calls"], empty, mode=plan.mode, floor=floor)

    def _profiled(self, plan: Plan, timings: list[gpu_verdict.Timing]) -> dict[str, float]:
        """The profiler's floor on the last case; beside the program, so it can only refuse."""
        reply = self._ask({"do": "profile", "case": plan.benchmarks[-1], **plan.common}, 120.0)
        kernels, total = float(reply.get("kernels", 0)), float(reply.get("kernel_us", 0))
        try:
            gpu_verdict.profiled(total, max(timings[-1].event_us, timings[-1].host_us))
        except Unbelievable as reason:
            raise Failed(Outcome.EXPLOIT, f"last case: {reason}") from None
        return {"kernels": kernels, "kernel_us": total}

    def _ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        assert self._reference is not None
        reply = self._reference.ask(request, timeout_s=timeout_s)
        if reply.get("failed") == "unrecorded":
            raise Unrecorded(reply["message"])
        if "failed" in reply:
            outcome = OUTCOMES.get(reply["failed"], Outcome.INVALID)
            raise Failed(outcome, reply["message"])
        return reply


def _verdict(measure: Callable[[], Verdict]) -> Verdict:
    try:
        return measure()
    except Failed as failure:
        return Verdict(outcome=failure.outcome, message=str(failure)[:500])
