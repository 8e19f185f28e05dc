"""Verifier throughput: milliseconds per verification, and its share of a step.

Usage: python tests/benchmarks/verifiers.py [--repeats 20] [--step-seconds 40]. An answer of the
size that runs reach goes through a real judge worker, transport included. The share is that of
the attempts of a `small-cpu` step, two workers, in a step of the given seconds (measured with
step_overhead.py on your machine).
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from eurekaflow.models.settings import preset_values
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.sandbox import Cause, Execution

DRAW = np.random.default_rng(0)
PACKING = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(32)]
ANSWERS = {
    "erdos, 600 cells": ("erdos", DRAW.uniform(0.1, 0.9, 600).tolist()),
    "ac1, 8,000 cells": ("ac1", DRAW.uniform(0, 1, 8_000).tolist()),
    "ac1, 50,000 cells": ("ac1", DRAW.uniform(0, 1, 50_000).tolist()),
    "ac2, 8,000 cells": ("ac2", DRAW.uniform(0, 1, 8_000).tolist()),
    "ac2, 50,000 cells": ("ac2", DRAW.uniform(0, 1, 50_000).tolist()),
    "circle-packing-26": ("circle-packing-26", [PACKING[:26], [1 / 12] * 26]),
    "circle-packing-32": ("circle-packing-32", [PACKING, [1 / 12] * 32]),
    "circle-packing-32, centers": ("circle-packing-32", PACKING),
}


def milliseconds(judge: Judge, name: str, answer: object, *, mode: str, repeats: int) -> float:
    """The median time of one verification."""
    execution = Execution(cause=Cause.RETURNED, result=json.dumps(answer).encode())
    took = []
    for _ in range(repeats + 1):  # the first one loads the problem
        started = time.perf_counter()
        verdict = judge.verdict(name, execution, mode=mode)
        took.append(1000 * (time.perf_counter() - started))
        assert verdict.value is not None, verdict.message
    return float(np.median(took[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--step-seconds", type=float, default=40.0)
    given = parser.parse_args()
    sizes = preset_values("small-cpu")
    rounds = sizes["groups"] * sizes["group_size"] / 2
    print(f"{'answer':>28} {'training ms':>12} {'exact ms':>10} {'of a step':>10}")
    with Judge(1) as judge:
        for label, (name, answer) in ANSWERS.items():
            fast, exact = (
                milliseconds(judge, name, answer, mode=mode, repeats=given.repeats)
                for mode in ("training", "exact")
            )
            share = rounds * fast / 1000 / given.step_seconds
            print(f"{label:>28} {fast:>12.2f} {exact:>10.2f} {100 * share:>9.2f}%")


if __name__ == "__main__":
    main()
