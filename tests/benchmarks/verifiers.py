"""Verifier throughput: milliseconds per verification, and its share of a step.

Usage: python tests/benchmarks/verifiers.py [--repeats 20] [--step-seconds 40] [ANSWER ...]. An
answer of the size that runs reach goes through a real judge worker, transport included, in the
training mode and in the mode of claims; of a contest it is the output of one case, and the share
counts all cases of an attempt. The share is that of the attempts of a `small-cpu` step, two
workers, in a step of the given seconds (measured with step_overhead.py on your machine). What the
candidates' own programs take is not in it. sql-query runs in a throwaway database.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import struct
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from eurekaflow.models.settings import preset_values
from eurekaflow.models.throwaway import throwaway
from eurekaflow.verifiers.denoising import Denoising
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import TRAINING, Verdict
from eurekaflow.verifiers.sandbox import Cause, Execution
from eurekaflow.verifiers.sql_query import SqlQuery
from eurekaflow.verifiers.stub import ARRAY

DRAW = np.random.default_rng(0)
PACKING = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(32)]


def comb(teeth: int = 90) -> str:
    """A net of 4 vertices a tooth, as long as programs make them."""
    points = [(0, 0), (1_000 * teeth, 0)]
    for tooth in reversed(range(teeth)):
        x, top = 1_000 * tooth, 2_000 if tooth % 2 else 1_000
        points += [(x + 1_000, top), (x, top)]
    return f"{len(points)}\n" + "\n".join(f"{x} {y}" for x, y in points)


def matrix() -> bytes:
    """Counts with a little added, as a denoised matrix crosses from the sandbox."""
    train = Denoising().benchmark.train
    denoised = train + 0.01 * DRAW.random(train.shape)
    return ARRAY + struct.pack("<B2Q", 2, *denoised.shape) + denoised.astype("<f8").tobytes()


ANSWERS = {
    "erdos, 600 cells": ("erdos", DRAW.uniform(0.1, 0.9, 600).tolist()),
    "ac1, 8,000 cells": ("ac1", DRAW.uniform(0, 1, 8_000).tolist()),
    "ac1, 50,000 cells": ("ac1", DRAW.uniform(0, 1, 50_000).tolist()),
    "ac2, 8,000 cells": ("ac2", DRAW.uniform(0, 1, 8_000).tolist()),
    "ac2, 50,000 cells": ("ac2", DRAW.uniform(0, 1, 50_000).tolist()),
    "circle-packing-26": ("circle-packing-26", [PACKING[:26], [1 / 12] * 26]),
    "circle-packing-32": ("circle-packing-32", [PACKING, [1 / 12] * 32]),
    "circle-packing-32, centers": ("circle-packing-32", PACKING),
    "ahc039, a case": ("ahc039", {"seed": 0, "output": comb()}),
    "ahc058, a case": ("ahc058", {"seed": 0, "output": "0 0\n" + "-1\n" * 499}),
    "denoising, 700 x 765": ("denoising", matrix()),
    "sql-query": ("sql-query", SqlQuery.query),
}


def milliseconds(judge: Judge, name: str, answer: object, *, mode: str, repeats: int) -> float:
    """The median time of one verification."""
    if isinstance(answer, str):
        ask = partial(judge.verdict_of_text, name, answer, mode=mode)
    else:
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        ask = partial(judge.verdict, name, Execution(cause=Cause.RETURNED, result=data), mode=mode)
    took = []
    for _ in range(repeats + 1):  # the first one loads the problem
        started = time.perf_counter()
        verdict: Verdict = ask()
        took.append(1000 * (time.perf_counter() - started))
        assert verdict.value is not None, verdict.message
    return float(np.median(took[1:]))


@contextlib.contextmanager
def judge_of(name: str) -> Iterator[Judge]:
    """A judge with one worker, and with the server that the problem needs."""
    with contextlib.ExitStack() as opened:
        service = ""
        if load(name).service:
            home = opened.enter_context(tempfile.TemporaryDirectory(prefix="eurekaflow-bench-"))
            Path(home).chmod(0o755)
            service = opened.enter_context(throwaway(Path(home)))
        yield opened.enter_context(Judge(1, service=service))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", nargs="*", help="beginnings of their names; all by default")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--step-seconds", type=float, default=40.0)
    given = parser.parse_args()
    sizes = preset_values("small-cpu")
    rounds = sizes["groups"] * sizes["group_size"] / 2
    print(f"{'answer':>28} {'training ms':>12} {'claim ms':>10} {'of a step':>10}")
    for label, (name, answer) in ANSWERS.items():
        if given.answers and not label.startswith(tuple(given.answers)):
            continue
        problem = load(name).with_cases(sizes["cases"])
        with judge_of(name) as judge:
            fast, claim = (
                milliseconds(judge, name, answer, mode=mode, repeats=given.repeats)
                for mode in (TRAINING, problem.claim_mode)
            )
        share = rounds * fast * max(1, len(problem.cases())) / 1000 / given.step_seconds
        print(f"{label:>28} {fast:>12.2f} {claim:>10.2f} {100 * share:>9.2f}%")


if __name__ == "__main__":
    main()
