"""Every known trick against a timing harness earns nothing here and fools a plain one.

The first line of each program in tests/cheats/trimul says what it is rejected for, the second the
kind of plain harness (`plain_harness.py`) that believes it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from eurekaflow.verifiers.gpu_plan import Plan
from eurekaflow.verifiers.gpu_problem import Kernel, require_gpu
from eurekaflow.verifiers.gpu_trial import Bench
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import Outcome, PrerequisiteAbsent, Verdict

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

HERE = Path(__file__).parent
CHEATS = sorted(p for p in (HERE / "cheats/trimul").glob("*.py") if p.stem != "honest")
HONEST = (HERE / "cheats/trimul/honest.py").read_text()
SHAPE = {"n": 384, "b": 1, "c": 128, "mask": True}
BROKEN = {
    "hang": "def custom_kernel(data):\n    while True:\n        pass\n",
    "device hang": "import torch\ndef custom_kernel(data):\n    torch.cuda._sleep(1 << 45)\n"
    "    return torch.empty_like(data[0])\n",
    "crash": "import torch, triton\nimport triton.language as tl\n@triton.jit\ndef k(p):\n"
    "    tl.store(p + (1 << 40) + tl.arange(0, 128), 1.0)\ndef custom_kernel(data):\n"
    "    k[(1,)](data[0])\n    return torch.empty_like(data[0])\n",
    "segmentation fault": "import os\ndef custom_kernel(data):\n    os.kill(os.getpid(), 11)\n"
    "    os.abort()\n",
}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    try:
        require_gpu()
    except PrerequisiteAbsent as reason:
        pytest.skip(str(reason))
    started = Bench("trimul", spares=6)
    yield started
    started.close()


def tried(bench: Bench, program: str, *, compile_s: float = 60.0) -> Verdict:
    plan = Plan(task="trimul", entry="custom_kernel", benchmarks=[SHAPE], calls=8, call_s=8.0,
                compile_s=compile_s, tests=[{"n": 32, "b": 1, "c": 128, "mask": True}],
                hidden=[{"n": 100, "b": 1, "c": 128, "mask": True}])  # fmt: skip
    return bench.trial(program, plan).verdict


def test_honest_code_is_timed(bench: Bench) -> None:
    verdict = tried(bench, HONEST)
    assert verdict.outcome is Outcome.VALID, verdict.message
    assert 0.05 < verdict.metrics["ratio"] < 1.0


@pytest.mark.parametrize("path", CHEATS, ids=lambda p: p.stem)
def test_a_cheat_earns_nothing_for_the_right_reason(path: Path, bench: Bench) -> None:
    source = path.read_text()
    verdict = tried(bench, source)
    assert verdict.outcome is not Outcome.VALID
    assert (verdict.value, verdict.reward) == (None, 0.0)
    assert re.search(source.split("\n", 1)[0].removeprefix("# rejected: "), verdict.message), (
        verdict.message
    )


@pytest.mark.parametrize("path", CHEATS, ids=lambda p: p.stem)
def test_the_same_cheat_fools_a_plain_harness(path: Path, bench: Bench) -> None:
    kind, _, faster = path.read_text().splitlines()[1].removeprefix("# fools: ").partition(", ")
    command = [sys.executable, str(HERE / "plain_harness.py"), str(path), kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["passed"]
    if faster:
        assert found["us"] < 0.75 * found["honest_us"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_kernel_ends_its_own_process_and_the_next_one_is_timed(
    name: str, bench: Bench
) -> None:
    verdict = tried(bench, BROKEN[name], compile_s=5.0)
    assert verdict.outcome in (Outcome.TIMEOUT, Outcome.RAISED, Outcome.KILLED)
    assert tried(bench, HONEST).outcome is Outcome.VALID


def test_our_own_kernel_is_right_on_every_case_of_the_task(bench: Bench) -> None:
    problem = load("trimul")
    assert isinstance(problem, Kernel)
    plan = replace(problem.plan("strict"), calls=3)
    verdict = bench.trial(problem.program_of_start(), plan).verdict
    assert verdict.outcome is Outcome.VALID, verdict.message
