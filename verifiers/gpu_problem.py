"""What GPU kernel problems share: modes, plans, records by GPU model, the trial of a program.

Strict (training and claims): random masks where a case declares them, hidden shapes, the L2 cache
overwritten before each call, no clock believed alone. Official: masks all ones as in the field's
harness, no flush, the time that events on the call's own stream show; both are stored with every
verdict (`official_us`). A time belongs to the GPU model it was measured on: records are those of
this machine's model, and on any other model the ratio to the interleaved reference speaks alone.
"""

from __future__ import annotations

import atexit
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from eurekaflow.verifiers import gpu_source
from eurekaflow.verifiers.contest_trial import Trial
from eurekaflow.verifiers.gpu_plan import Plan
from eurekaflow.verifiers.gpu_trial import Bench
from eurekaflow.verifiers.gpu_verdict import OFFICIAL, STRICT
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.problem import (
    TRAINING,
    InvalidAnswer,
    Outcome,
    PrerequisiteAbsent,
    Problem,
    Record,
    Remeasurement,
    Seed,
    Verdict,
)
from eurekaflow.verifiers.sandbox import Cause, Execution, Sandbox

GPUS = Path("/proc/driver/nvidia/gpus")
FOLDER = Path(__file__).resolve().parent
REWARD_US = 3000.0  # the time that earns the reward 1
START_VALUE = -1_000_000.0  # of a start without code, or until it is timed: worse than any kernel
CHARACTERS_PER_TOKEN = 3.0  # of a kernel's source; 3.1 were measured of ours
PROCESSES, CALLS_EACH = 7, 10  # that time a kernel when a mode is asked for; in training one does
RETIMED, RETIMED_PROCESSES = 3, 3  # times a finalist is timed again, each in so many processes


def gpu_model() -> str:
    """The first NVIDIA GPU's model name, such as "NVIDIA H200"; "" where there is none."""
    for information in sorted(GPUS.glob("*/information")):
        for line in information.read_text().splitlines():
            if line.startswith("Model:"):
                return line.partition(":")[2].strip()
    return ""


def require_gpu() -> None:
    """Raise PrerequisiteAbsent unless an NVIDIA GPU, torch for it and Triton are here."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        raise PrerequisiteAbsent(
            "kernels are measured on an NVIDIA GPU and this machine has none",
            "use a machine with an NVIDIA GPU; `eureka doctor` shows what is seen",
        )
    if version("torch").endswith("+cpu"):
        raise PrerequisiteAbsent(
            "the installed torch is the CPU build", "pip install --force-reinstall torch"
        )
    try:
        version("triton")
    except PackageNotFoundError:
        raise PrerequisiteAbsent("Triton is not installed", "pip install triton") from None


@cache
def bench_for(task: str, *, ours: bool = False) -> Bench:
    """This process's bench of a task; its workers end with the process.

    `ours`: for programs of which only checked numbers come from a model. They need no walls, and
    what Triton has compiled of them is kept for the next.
    """
    bench = Bench(task, confined=not ours, cache=_kept_folder() if ours else "")
    atexit.register(bench.close)
    return bench


def _kept_folder() -> str:
    folder = tempfile.mkdtemp(prefix="eurekaflow-triton-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Kernel(Problem):
    """One kernel problem; `cases` are lists of a task's shapes as keyword arguments."""

    direction = "min"
    metric = "microseconds"
    unmeasured = START_VALUE
    entry_point = "custom_kernel"
    modes = (TRAINING, STRICT, OFFICIAL)
    claim_mode = STRICT
    finalists = 20
    task: ClassVar[str]
    statement_text: ClassVar[str]
    brief_text: ClassVar[str] = ""
    starter: ClassVar[str]  # file with our best kernel
    plain_starter: ClassVar[str]  # file with a short one, which small models start from
    triton_required: ClassVar[bool] = True
    ours: ClassVar[bool] = False  # whether only checked numbers of a program are the model's

    def plan(self, mode: str) -> Plan:
        """What a program is tried on in a mode."""
        raise NotImplementedError

    def asked(self, mode: str, processes: int | None = None) -> Plan:
        """The plan when a mode is asked for: timed by several processes, each a few times."""
        if mode == TRAINING:
            return self.plan(mode)
        return replace(self.plan(mode), processes=processes or PROCESSES, calls=CALLS_EACH)

    def statement(self, *, brief: bool = False) -> str:
        return self.brief_text if brief and self.brief_text else self.statement_text

    def seeds(
        self, rng: np.random.Generator, count: int, *, brief: bool = False
    ) -> Sequence[Seed]:
        """No code and kernels of our own in turn; small models see the short one."""
        plain, best = self.program_of_start(brief=True), self.program_of_start()
        programs = [plain] if brief else [*dict.fromkeys(("", plain, best))]
        return [Seed(value=START_VALUE, program=programs[i % len(programs)]) for i in range(count)]

    def program_of_start(self, *, brief: bool = False) -> str:
        """The answer that our own kernel is; `brief`: the plain form, where there is one."""
        return (FOLDER / (self.plain_starter if brief else self.starter)).read_text()

    def program_of(self, answer: str) -> str:
        """The program that an answer stands for. Raises InvalidAnswer."""
        if self.triton_required and (reason := gpu_source.refused(answer)):
            raise InvalidAnswer(reason)
        return answer

    def require(self) -> None:
        require_gpu()

    def answer_tokens(self) -> int:
        """Room for half as much again as the program that small models start from."""
        return round(1.5 * len(self.program_of_start(brief=True)) / CHARACTERS_PER_TOKEN)

    def check_device(self, *, bench: Bench | None = None) -> None:
        """Raise SandboxUnavailable unless a worker starts and an empty call goes well."""
        (bench or bench_for(self.task, ours=self.ours)).check(self.plan(STRICT))

    def reward(self, value: float) -> float:
        return -REWARD_US / value

    def try_out(
        self,
        answer: str,
        *,
        mode: str = TRAINING,
        bench: Bench | None = None,
        processes: int | None = None,
    ) -> Trial:
        """Measure an answer. Raises SandboxUnavailable."""
        try:
            program = self.program_of(answer)
        except InvalidAnswer as reason:
            failed = Execution(cause=Cause.RETURNED, message=str(reason))
            return Trial(
                verdict=Verdict(outcome=Outcome.INVALID, message=str(reason)), execution=failed
            )
        bench = bench or bench_for(self.task, ours=self.ours)
        _let_the_policy_finish()
        trial = bench.trial(program, self.asked(mode, processes))
        return replace(trial, verdict=self._finished(trial.verdict, program, mode, bench.device))

    def _finished(
        self, verdict: Verdict, program: str, mode: str, device: Mapping[str, Any]
    ) -> Verdict:
        """Reward, mode, and the device by name, on a verdict."""
        if verdict.value is None:
            return verdict
        metrics = {**verdict.metrics, "suspect_names": float(len(gpu_source.findings(program)))}
        return replace(
            verdict,
            reward=self.reward(verdict.value),
            mode=OFFICIAL if mode == OFFICIAL else STRICT,
            message=described(device, verdict.metrics),
            metrics=metrics,
        )

    def remeasure(
        self, program: str, *, spec: str, sandbox: Sandbox, judge: Judge
    ) -> Sequence[Remeasurement]:
        """A finalist timed three times again in both modes."""
        found = []
        for mode in (STRICT, OFFICIAL):
            trials = [
                self.try_out(program, mode=mode, processes=RETIMED_PROCESSES).verdict
                for _ in range(RETIMED)
            ]
            values = [verdict.value for verdict in trials if verdict.value is not None]
            if len(values) < RETIMED:
                failed = next(v for v in trials if v.value is None)
                raise InvalidAnswer(f"timed again in {mode} mode: {failed.message}")
            mean = statistics.fmean(values)
            found.append(Remeasurement(mode=mode, value=mean, message=trials[0].message))
        return found


def _let_the_policy_finish() -> None:
    """A policy in this process must leave the device idle while a kernel is timed."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # what it has cached is the kernel's to use


def described(device: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """The device of a measurement, and the ratio to the interleaved reference, in one line."""
    several = ""
    if "spread" in metrics:
        several = f", mean of {metrics['processes']:.0f} processes {metrics['spread']:.1%} apart"
    return (
        f"{device['gpu']}, driver {device['driver']}, torch {device['torch']}, triton "
        f"{device['triton']}; {metrics['ratio']:.4f} of the interleaved reference's time{several}"
    )


def records_of(by_gpu: Mapping[str, Sequence[Record]], gpu: str) -> tuple[Record, ...]:
    """The records measured on this GPU model; none on a model that is not listed."""
    found = [records for name, records in by_gpu.items() if name in gpu]
    return tuple(found[0]) if gpu and found else ()
