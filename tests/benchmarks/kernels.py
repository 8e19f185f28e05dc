"""What kernels take on this GPU: eager, compiled, ours; strict and official, with the roofline.

    python tests/benchmarks/kernels.py [--runs 10 [--record]] [--only NAME]

Prints one line a program and problem. With `--runs` it times our TriMul kernel that often instead,
as `eureka verify trimul --strict` does but without tests, in processes that share what Triton has
compiled, and prints the spread of the ratio to the reference. Needs an NVIDIA GPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from eurekaflow.verifiers.gpu_problem import FOLDER, Kernel, described, require_gpu  # noqa: E402
from eurekaflow.verifiers.gpu_trial import Bench  # noqa: E402
from eurekaflow.verifiers.gpu_verdict import OFFICIAL, STRICT  # noqa: E402
from eurekaflow.verifiers.lookup import load  # noqa: E402
from eurekaflow.verifiers.problem import PrerequisiteAbsent  # noqa: E402

EAGER = (ROOT / "tests/cheats/trimul/honest.py").read_text()
PROGRAMS = {
    "eager fp32": EAGER.replace(".half()", "").replace(".float()", ""),
    "eager fp16": EAGER,
    "compiled fp16": EAGER + "\n\ncustom_kernel = torch.compile(honest, dynamic=True)\n",
    "ours in Triton": (FOLDER / "trimul_kernel.py").read_text(),
}


def main() -> None:
    """Measure and print; one line where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--record", action="store_true", help="play the timed calls as graphs")
    arguments = parser.parse_args()
    try:
        require_gpu()
    except PrerequisiteAbsent as reason:
        print(f"nothing to measure: {reason}")
        return
    if arguments.runs:
        _spread(arguments.runs, record=arguments.record)
        return
    programs = {name: text for name, text in PROGRAMS.items() if arguments.only in name}
    _table("trimul", programs)
    if not arguments.only:
        _table("mla-decode", {"absorbed, eager": (FOLDER / "mla_kernel.py").read_text()})


def _table(name: str, programs: dict[str, str]) -> None:
    problem = load(name)
    assert isinstance(problem, Kernel)
    bench = Bench(problem.task)
    for program, source in programs.items():
        for mode in (STRICT, OFFICIAL):
            verdict = bench.trial(source, problem.asked(mode)).verdict
            line = f"{name:12} {program:16} {mode:9}"
            if verdict.value is None:
                print(f"{line} {verdict.outcome}: {verdict.message}", flush=True)
                continue
            m = verdict.metrics
            print(f"{line} {m['score_us']:8.0f} us, ratio {m['ratio']:.4f}, "
                  f"{m['score_us'] / m['floor_us']:.1f} x the roofline", flush=True)  # fmt: skip
    print(described(bench.device, {"ratio": 1.0}).split(";")[0], flush=True)
    bench.close()


def _spread(runs: int, *, record: bool) -> None:
    problem = load("trimul")
    assert isinstance(problem, Kernel)
    plan = replace(problem.asked(STRICT), tests=(), hidden=(), profile=False,
                   record=record)  # fmt: skip
    ratios, cache = [], tempfile.TemporaryDirectory()
    for _ in range(runs):
        started = time.monotonic()
        bench = Bench(problem.task, confined=False, cache=cache.name, spares=plan.processes - 1)
        verdict = bench.trial(PROGRAMS["ours in Triton"], plan).verdict
        bench.close()
        if verdict.value is None:
            sys.exit(f"run {len(ratios) + 1}: {verdict.outcome}: {verdict.message}")
        m = verdict.metrics
        ratios.append(m["ratio"])
        took = time.monotonic() - started
        print(f"  {m['score_us']:.0f} us, ratio {m['ratio']:.4f}, by its own clocks "
              f"{m['inner_us']:.0f} us; its processes {m['spread']:.1%} apart; took {took:.0f} s",
              flush=True)  # fmt: skip
    spread = (max(ratios) - min(ratios)) / min(ratios)
    print(f"{runs} runs: ratio {min(ratios):.4f} to {max(ratios):.4f}, spread {spread:.2%}")


if __name__ == "__main__":
    main()
