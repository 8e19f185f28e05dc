"""The supervisor of a kernel's trial beside workers that a test plays: checks, phases, clocks."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eurekaflow.tasks import verify
from eurekaflow.verifiers import gpu_clocks, gpu_process, gpu_shims
from eurekaflow.verifiers.gpu_phase import Failed, Phase
from eurekaflow.verifiers.gpu_plan import Plan
from eurekaflow.verifiers.gpu_problem import Kernel, described
from eurekaflow.verifiers.gpu_process import WorkerEnded
from eurekaflow.verifiers.gpu_trial import SERVES, Bench
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import Outcome
from eurekaflow.verifiers.sandbox import SandboxUnavailable

CASE = {"n": 32, "b": 1, "c": 128, "mask": True}
PLAN = Plan(task="trimul", entry="custom_kernel", benchmarks=[CASE], tests=[CASE])
Reply = Callable[[dict[str, Any]], dict[str, Any]]
TIMES = {"stream_us": 100.0, "event_us": 110.0, "host_us": 120.0, "outer_us": 420.0,
         "handed_us": 500.0, "reference_us": 800.0}  # fmt: skip
EMPTY = {"stream_us": 5.0, "event_us": 15.0, "host_us": 20.0, "outer_us": 310.0,
         "handed_us": 500.0, "reference_us": 800.0}  # fmt: skip


class Played:
    """A reference worker that answers as a test says; it remembers what it was asked."""

    def __init__(self, reply: Reply) -> None:
        self.reply, self.asked = reply, list[dict[str, Any]]()

    def ask(
        self, request: dict[str, Any], *, timeout_s: float, descriptors: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        self.asked.append(request)
        return self.reply(request)

    def close(self) -> None:
        pass


def good(request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "calibrate":
        return EMPTY
    return {"calls": [TIMES] * request.get("calls", 0), "bytes": 1, "operations": 1}


def bench(reply: Reply) -> tuple[Bench, Played]:
    played = Played(reply)
    made = Bench("trimul", spares=0)
    made._reference = played  # type: ignore[assignment]
    made.device = {"bandwidth": 1e12, "gpu": "a GPU", "size": 1, "libraries": ""}
    made.start_one = worker  # type: ignore[method-assign,assignment]
    return made, played


def worker() -> Any:
    return SimpleNamespace(
        wait_ready=lambda: 1, channel=SimpleNamespace(fileno=lambda: 0), served=0,
        output=lambda: b"", close=lambda: None, wait_loaded=lambda: None,
    )  # fmt: skip


def test_a_device_is_checked_by_empty_calls_that_are_never_remembered_ones() -> None:
    made, played = bench(good)
    made.check(PLAN)
    (asked,) = [request for request in played.asked if request["do"] == "calibrate"]
    assert asked["recent_s"] == 0
    assert not [request for request in played.asked if request["do"] == "load"]


def failing(request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "calibrate":
        return {"failed": "died", "message": "its process ended"}
    return {}


def lost(request: dict[str, Any]) -> dict[str, Any]:
    raise WorkerEnded("the reference worker: gone")


@pytest.mark.parametrize("reply", [failing, lost])
def test_a_device_on_which_an_empty_call_fails_is_unavailable(reply: Reply) -> None:
    with pytest.raises(SandboxUnavailable):
        bench(reply)[0].check(PLAN)


def test_the_known_good_job_of_a_kernel_problem_is_on_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a device that is lost twice would be taken for the fault of the kernel on it."""
    problem = load("trimul")
    assert isinstance(problem, Kernel)
    checked: list[str] = []

    def unavailable() -> None:
        checked.append("device")
        raise SandboxUnavailable("no device")

    monkeypatch.setattr(problem, "check_device", unavailable)
    session: Any = SimpleNamespace(problem=problem, judge=None)
    with pytest.raises(SandboxUnavailable):
        verify.check_verifiers(session)
    assert checked == ["device"]


def test_spare_workers_load_beside_the_compiler_and_never_beside_a_clock() -> None:
    """A worker that imported torch beside timed calls cost an honest kernel its verdict."""
    made, played = bench(good)
    made.spares, first = 2, made.start_one

    def started() -> Any:
        played.asked.append({"do": "start"})
        return SimpleNamespace(
            **{**vars(first()), "wait_loaded": lambda: played.asked.append({"do": "loaded"})}
        )

    made._waiting, made.start_one = [first()], started  # type: ignore[list-item,method-assign]
    assert made.trial("", replace(PLAN, profile=False)).verdict.outcome is Outcome.VALID
    assert [request["do"] for request in played.asked] == [
        "attach", "calibrate", "start", "start", "load", "measure", "loaded", "loaded", "measure",
        "detach",
    ]  # fmt: skip


def test_one_worker_serves_programs_of_ours_until_one_fails_or_it_has_served_enough() -> None:
    made, played = bench(good)
    made.confined, plan = False, replace(PLAN, profile=False)
    for _ in range(SERVES):
        made.trial("", plan)
    asked = [request["do"] for request in played.asked]
    assert [asked.count(what) for what in ("attach", "unload", "detach")] == [1, SERVES - 1, 1]
    made.trial("", plan)
    played.reply = failing
    made.trial("", plan)
    assert [request["do"] for request in played.asked].count("detach") == 2


def test_a_program_of_others_gets_a_worker_of_its_own() -> None:
    made, played = bench(good)
    for _ in range(2):
        made.trial("", replace(PLAN, profile=False))
    asked = [request["do"] for request in played.asked]
    assert [asked.count(what) for what in ("attach", "unload", "detach")] == [2, 0, 2]


def test_a_hiccup_of_the_host_is_measured_again_and_a_lie_is_refused() -> None:
    """Of an honest kernel the clock outside said 1037 us once, its own ones 769 us."""
    late = {**TIMES, "outer_us": 1200.0}
    timed = iter([late, late, late, TIMES, late, late, late, late])

    def reply(request: dict[str, Any]) -> dict[str, Any]:
        found = good(request)
        return {**found, "calls": [next(timed)] * 20} if request.get("calls") == 20 else found

    made, _ = bench(reply)
    plan = replace(PLAN, profile=False)
    assert made.trial("", plan).verdict.outcome is Outcome.VALID
    refused = made.trial("", plan).verdict
    assert refused.outcome is Outcome.EXPLOIT
    assert "case 0 (n=32, b=1, c=128, mask): its own clocks say" in refused.message


def test_every_call_of_a_phase_gets_no_more_time_than_is_left() -> None:
    made, played = bench(good)
    verdict = made.trial("", replace(PLAN, profile=False, phase_s=5.0)).verdict
    assert verdict.outcome is Outcome.VALID, verdict.message
    measured = [request for request in played.asked if request["do"] == "measure"]
    assert [request["calls"] for request in measured] == [0, 20]
    assert all(0 < request["compile_s"] <= 5.0 for request in measured)
    assert (verdict.metrics["case0_inner_us"], verdict.metrics["case0_outer_us"]) == (100.0, 110.0)


def test_a_trial_whose_phase_is_used_up_is_a_timeout() -> None:
    def slow(request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "measure":
            time.sleep(0.06)
        return good(request)

    made, played = bench(slow)
    verdict = made.trial("", replace(PLAN, tests=[CASE] * 9, phase_s=0.1)).verdict
    assert verdict.outcome is Outcome.TIMEOUT
    assert "loading and testing took more than 0.1 s" in verdict.message
    assert len([request for request in played.asked if request["do"] == "measure"]) < 9


def test_a_used_up_phase_says_so() -> None:
    phase = Phase("the timed cases", 0.0)
    with pytest.raises(Failed, match="the timed cases took more than 0 s"):
        phase.within({"timeout_s": 1.0, "compile_s": 1.0})


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("1980, 3201", {"clock_sm_mhz": 1980.0, "clock_mem_mhz": 3201.0}),
        ("[N/A], 3201", {}),
        ("", {}),
    ],
)
def test_the_clocks_are_those_the_driver_says(
    said: str, found: dict[str, float], tmp_path: Path
) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\necho '{said}'\n")
    tool.chmod(0o755)
    assert gpu_clocks.now(str(tool)) == found
    assert gpu_clocks.now(str(tmp_path / "none")) == {}


SUBMISSION = """
import torch
from task import input_t, output_t
from utils import DeterministicContext, DisableCuDNNTF32, make_match_reference, verbose_allclose
from reference import KVCache, Config, ref_kernel
check = make_match_reference(ref_kernel, rtol=2e-2, atol=2e-2)
def custom_kernel(data: input_t) -> output_t:
    with DisableCuDNNTF32():
        return data
def asks(data):
    return ref_kernel(data)
"""


def test_a_public_submission_is_imported_and_finds_no_expected_output() -> None:
    program = (
        "import sys; sys.path[:] = [p for p in sys.path if p]\n"
        f"shims, submission = {Path(gpu_shims.__file__).read_text()!r}, {SUBMISSION!r}\n"
        "import types\nmodule = types.ModuleType('shims')\nexec(shims, module.__dict__)\n"
        "class Cache: pass\nmodule.provide(Cache)\nfound = {}\nexec(submission, found)\n"
        "assert found['custom_kernel'](3) == 3 and found['KVCache'] is Cache\n"
        "for call in (found['asks'], found['check']):\n"
        "    try: call(1)\n"
        "    except module.NotHere as error: print(error)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is not given to programs") == 2


def test_a_candidates_worker_starts_with_the_stand_ins_in_place() -> None:
    setting = gpu_process.configuration(size=1, libraries="", confined=False)
    program = gpu_process.WORKER.replace(
        "parts.candidate.main(",
        "import task, utils, reference; print(reference.KVCache.__name__); (",
    )
    assert program != gpu_process.WORKER
    command = [sys.executable, "-s", "-S", "-P", "-B", "-c", program, setting["argv"][-1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "KVCache\n", done.stderr[-500:]


def pooled(confined: bool) -> tuple[list[str], dict[str, Any], Any]:
    """What is asked, and the verdict, when three processes take 100, 110 and 90 us."""
    streams, calls = iter([100.0, 110.0, 90.0]), 20

    def reply(request: dict[str, Any]) -> dict[str, Any]:
        found = good(request)
        if request.get("calls") == calls:
            now = next(streams)
            honest = {**TIMES, "stream_us": now, "event_us": now + 10.0, "host_us": now + 20.0}
            found["calls"] = [{**honest, "outer_us": now + 310.0}] * calls
        return found

    made, played = bench(reply)
    made.confined = confined
    verdict = made.trial("x", replace(PLAN, profile=False, processes=3)).verdict
    assert verdict.outcome is Outcome.VALID, verdict.message
    loads = [request for request in played.asked if request["do"] == "load"]
    return [request["do"] for request in played.asked], {"loads": loads}, verdict


def test_several_processes_time_a_program_and_their_mean_is_told_with_its_spread() -> None:
    asked, more, verdict = pooled(confined=True)
    one = ["attach", "calibrate", "load", "measure", "detach"]
    assert asked == [*one[:3], "measure", "measure", "keep", "detach", *one, *one]
    assert [request["kept"] for request in more["loads"]] == [False, True, True]
    assert verdict.value == pytest.approx(-100.0)
    assert verdict.metrics["ratio"] == pytest.approx(100.0 / 800.0)
    assert verdict.metrics["processes"] == 3
    assert verdict.metrics["spread"] == pytest.approx(110.0 / 90.0 - 1)
    said = described({"gpu": "a", "driver": 1, "torch": 2, "triton": 3}, verdict.metrics)
    assert said.endswith("reference's time, mean of 3 processes 22.2% apart")


def test_programs_of_ours_are_timed_by_fresh_processes_too() -> None:
    """They find what was compiled where it is kept; nothing is carried."""
    asked, more, _ = pooled(confined=False)
    assert [asked.count(what) for what in ("attach", "unload", "detach", "keep")] == [3, 3, 2, 0]
    assert not any(request["kept"] for request in more["loads"])


def test_a_program_that_fails_in_a_further_process_has_failed() -> None:
    loaded = iter([{}, {"failed": "raised", "message": "RuntimeError: not twice"}])
    made, _ = bench(lambda r: next(loaded) if r["do"] == "load" else good(r))
    verdict = made.trial("x", replace(PLAN, profile=False, processes=2)).verdict
    assert (verdict.outcome, verdict.value) == (Outcome.RAISED, None)
    assert "not twice" in verdict.message


def test_a_call_that_no_graph_can_hold_is_timed_as_it_is() -> None:
    def reply(request: dict[str, Any]) -> dict[str, Any]:
        if request.get("record"):
            return {"failed": "unrecorded", "message": "it waits for the device"}
        return good(request)

    made, played = bench(reply)
    verdict = made.trial("x", replace(PLAN, profile=False, record=True)).verdict
    assert verdict.outcome is Outcome.VALID, verdict.message
    assert verdict.metrics["recorded"] == 0.0
    assert [request["do"] for request in played.asked].count("attach") == 2
    made, _ = bench(good)
    verdict = made.trial("x", replace(PLAN, profile=False, record=True)).verdict
    assert verdict.metrics["recorded"] == 1.0
