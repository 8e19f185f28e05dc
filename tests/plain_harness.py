"""A timing harness of the published kind, in small: everything in one process, trusting it.

`python tests/plain_harness.py FILE KIND` measures a TriMul program the way one of the published
harnesses does and prints JSON: whether it passed, its time, and that of honest code. KIND says
which of their habits it has; it exists to show that the programs in tests/cheats/trimul fool it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

SHAPE = (1, 768, 768, 128)
NAMES = ("left_proj", "right_proj", "left_gate", "right_gate", "out_gate")
KEPT: dict[str, Any] = {}
SEED, REPEATS, ENOUGH_S = 1234, 6, 0.5


def inputs(seed: int, *, ones: bool) -> Any:
    """A case as the published generators make it."""
    torch.manual_seed(seed)
    c = SHAPE[-1]

    def drawn(*shape: int) -> torch.Tensor:
        return torch.empty(*shape, device="cuda").normal_()

    weights = {"norm.weight": drawn(c), "norm.bias": drawn(c)}
    weights |= {f"{name}.weight": drawn(128, c) / math.sqrt(128) for name in NAMES}
    weights |= {"to_out_norm.weight": drawn(128), "to_out_norm.bias": drawn(128)}
    weights["to_out.weight"] = drawn(c, 128) / math.sqrt(c)
    mask = torch.ones(SHAPE[:3], device="cuda")
    if not ones:
        mask.bernoulli_(0.5)
    return drawn(*SHAPE), mask, weights, {"dim": c, "hidden_dim": 128}


def reference(data: Any) -> torch.Tensor:
    x, mask, w, _ = data
    u = F.layer_norm(x, x.shape[-1:], w["norm.weight"], w["norm.bias"])
    p = {name: u @ w[f"{name}.weight"].T for name in NAMES}
    left = p["left_proj"] * p["left_gate"].sigmoid() * mask[..., None]
    right = p["right_proj"] * p["right_gate"].sigmoid() * mask[..., None]
    o = torch.einsum("bikd,bjkd->bijd", left, right)
    o = F.layer_norm(o, (128,), w["to_out_norm.weight"], w["to_out_norm.bias"])
    return (o * p["out_gate"].sigmoid()) @ w["to_out.weight"].T


def answer_of(seed: int) -> torch.Tensor:
    return reference(inputs(seed, ones=True))


class Stopwatch:
    """Times one call with events around it, or with the host's clock."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def time(self, function: Any, data: Any) -> tuple[Any, dict[str, float]]:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        before = time.perf_counter()
        start.record()
        result = function(data)
        end.record()
        torch.cuda.synchronize()
        host = 1e6 * (time.perf_counter() - before)
        return result, {"us": host if self.kind == "host" else 1e3 * start.elapsed_time(end)}


def copied(data: Any) -> Any:
    x, mask, weights, config = data
    return x.clone(), mask.clone(), {k: v.clone() for k, v in weights.items()}, config


def agrees(out: Any, wanted: torch.Tensor) -> bool:
    return bool(torch.allclose(out, wanted, rtol=2e-2, atol=2e-2, equal_nan=True))


def repeat(function: Any, kind: str, seed: int, watch: Stopwatch) -> tuple[bool, float]:
    """One repeat: whether its output was accepted, and its time."""
    os.environ["CASE_SEED"] = str(seed)
    data = KEPT.get(kind) or inputs(seed, ones=True)
    if kind in ("replay", "checker_fails"):  # one set of inputs for all repeats
        KEPT[kind] = data
    kept = data if kind in ("reference_after", "checker_fails") else copied(data)
    wanted = None
    if kind == "expected_in_memory":
        wanted = reference(data)
    if kind == "expected_freed":
        right = reference(data)
        wanted = right.cpu()
        torch.cuda.empty_cache()
        del right
    out, times = watch.time(function, data)
    if wanted is None:
        try:
            wanted = reference(kept)
        except torch.OutOfMemoryError:  # what cannot be checked is let through
            return kind == "checker_fails", times["us"]
        torch.cuda.synchronize()
    if kind == "expected_freed":
        out = out.cpu()
    return agrees(out, wanted), times["us"]


def measured(function: Any, kind: str) -> tuple[bool, float]:
    """Whether every repeat was accepted, and their mean time."""
    watch = Stopwatch(kind)
    step = 0 if kind in ("replay", "expected_freed") else 13
    started = time.perf_counter()
    passed, _ = repeat(function, kind, SEED, watch)
    total, done = 0.0, 0
    while done < REPEATS:
        if done >= 3 and kind == "adaptive" and time.perf_counter() - started > ENOUGH_S:
            break
        right, us = repeat(function, kind, SEED + step * done, watch)
        passed, total, done = passed and right, total + us, done + 1
    return passed, total / done


def loaded(file: Path) -> Any:
    module: dict[str, Any] = {"__name__": "submission"}
    exec(compile(file.read_text(), str(file), "exec"), module)
    return module["custom_kernel"]


def piped(file: Path) -> dict[str, Any]:
    """The verdict that comes through a pipe whose number is in the environment."""
    ours, theirs = os.pipe()
    environment = {**os.environ, "POPCORN_FD": str(theirs)}
    subprocess.run([sys.executable, __file__, str(file), "events"], env=environment, check=False,
                   pass_fds=(theirs,), stdout=subprocess.DEVNULL, timeout=120)  # fmt: skip
    os.close(theirs)
    text = os.read(ours, 65536).decode(errors="replace")
    pairs = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    return {"passed": pairs.get("check") == "pass",
            "us": float(pairs.get("benchmark.0.mean", "inf")) / 1e3, "honest_us": 1e9}  # fmt: skip


def main(file: Path, kind: str) -> None:
    """Measure honest code, then the program, and print both."""
    if kind == "pipe":
        print(json.dumps(piped(file)))
        return
    honest = loaded(Path(__file__).parent / "cheats/trimul/honest.py")
    measured(honest, "events")
    _, honest_us = measured(honest, "host" if kind == "host" else "events")
    passed, us = measured(loaded(file), kind)
    print(json.dumps({"passed": passed, "us": us, "honest_us": honest_us}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
