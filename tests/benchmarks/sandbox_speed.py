"""Evaluations per second of a trivial numpy candidate on all cores, by how it is run.

    python -m tests.benchmarks.sandbox_speed [--seconds 5] [--engine unix:///path/to/engine.sock]

Cold means that what runs the candidate is started for it. The same zygote forking a child without
any confinement (level "none") is the yardstick for what the walls cost. CPU seconds are those of
this process and of the children it has waited for: zygotes and containers are not among them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from eurekaflow.verifiers.docker_sandbox import DockerSandbox
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Cause, Job, Limits, Sandbox, SandboxUnavailable

JOB = Job(program="def f():\n    return float(np.arange(3.0).sum())", entry_point="f")
BARE = "import numpy as np; print(float(np.arange(3.0).sum()))"
STACK = "import numpy, scipy"


def rate(one: Callable[[], None], *, workers: int, seconds: float) -> tuple[int, float]:
    """(evaluations, their number per second) with `workers` threads calling `one`."""
    deadline = time.monotonic() + seconds

    def loop(_: int) -> int:
        count = 0
        while time.monotonic() < deadline or count == 0:
            one()
            count += 1
        return count

    started = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        total = sum(pool.map(loop, range(workers)))
    return total, total / (time.monotonic() - started)


def report(name: str, one: Callable[[], None], *, workers: int, seconds: float) -> float:
    """Measure once to warm up, then print a row."""
    one()
    before = os.times()
    count, per_second = rate(one, workers=workers, seconds=seconds)
    after = os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    print(
        f"{name:<34} {per_second:8.1f} /s  {1e3 * cpu / count:7.1f} ms CPU  ({count})", flush=True
    )
    return per_second


def bare(code: str) -> Callable[[], None]:
    """A fresh interpreter without any walls."""
    environment = {"OPENBLAS_NUM_THREADS": "1", "PATH": os.environ["PATH"]}

    def one() -> None:
        subprocess.run(
            [sys.executable, "-c", code], env=environment, check=True, capture_output=True
        )

    return one


def warm(sandbox: Sandbox) -> Callable[[], None]:
    """A candidate in a sandbox that is there already."""

    def one() -> None:
        execution = sandbox.run(JOB, Limits())
        assert execution.cause is Cause.RETURNED, execution

    return one


def cold(make: Callable[[], ProcessSandbox | DockerSandbox]) -> Callable[[], None]:
    """A sandbox for each candidate; it runs its own canary too."""

    def one() -> None:
        with make() as sandbox:
            warm(sandbox)()

    return one


def _met(holds: bool) -> str:
    return "met" if holds else "missed"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--engine", default=None)
    given = parser.parse_args()
    workers = len(os.sched_getaffinity(0))
    size = {"workers": workers, "seconds": given.seconds}
    print(f"{workers} cores, load {os.getloadavg()[0]:.1f}, each {given.seconds:g} s")
    report("bare: import numpy", bare(BARE), **size)
    start = report("bare: import numpy, scipy", bare(STACK), **size)
    report("process, cold", cold(lambda: ProcessSandbox(1)), **size)
    with ProcessSandbox(workers, levels=(), unsafe=True) as sandbox:
        open_rate = report("zygote without walls", warm(sandbox), **size)
    with ProcessSandbox(workers) as sandbox:
        closed_rate = report("process, warm", warm(sandbox), **size)
    faster, slower = closed_rate / start, open_rate / closed_rate
    print(f"process warm: {faster:.1f}x a cold import (target: 10, {_met(faster >= 10)}), "
          f"{slower:.2f}x the time of no walls (target: 2 at most, {_met(slower <= 2)}), "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    try:
        with DockerSandbox(workers, base_url=given.engine) as containers:
            report("docker, warm", warm(containers), **size)
        report("docker, cold", cold(lambda: DockerSandbox(1, base_url=given.engine)), **size)
    except SandboxUnavailable as reason:
        print(f"docker: not measured: {reason}")


if __name__ == "__main__":
    main()
