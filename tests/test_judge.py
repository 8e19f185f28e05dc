"""The judge: real worker processes against hostile bytes, death, hanging and lost machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eurekaflow.verifiers.judge import Judge, JudgeUnavailable, unparseable
from eurekaflow.verifiers.problem import Outcome, Verdict
from eurekaflow.verifiers.sandbox import Cause, Execution

PROBLEM = """
import os, time
from eurekaflow.verifiers.problem import Judgement, Problem, ProvenBoundBroken, Seed

class Awkward(Problem):
    name = "awkward"

    def judge(self, answer, *, exact=False):
        print("a problem may print")
        if answer == "pid":
            return Judgement(value=float(os.getpid()))
        if answer == "environment":
            return Judgement(value=float(len(set(os.environ) - {"OPENBLAS_NUM_THREADS",
                                                                "OMP_NUM_THREADS", "LC_CTYPE"})))
        if answer == "sleep":
            time.sleep(60)
        if answer == "nap":
            time.sleep(0.3)
        if answer == "spin":
            while True:
                pass
        if answer == "memory":
            bytearray(1 << 50)
        if answer == "abort":
            os.abort()
        if answer == "kill":
            os.kill(os.getpid(), 9)
        if answer == "bug":
            raise KeyError("unforeseen")
        if answer == "nan":
            return Judgement(value=float("nan"))
        if answer == "exploit":
            raise ProvenBoundBroken("beats\\na theorem")
        if answer == "modules":
            import sys
            return Judgement(value=float(sum(m in sys.modules for m in ("torch", "sqlalchemy"))))
        return Judgement(value=1.0 if exact else 0.5, metrics={"seen": 1.0})
"""


def returned(answer: object) -> Execution:
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return Execution(cause=Cause.RETURNED, result=data)


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(2, wall_s=20.0) as pool:
        yield pool


@pytest.fixture
def awkward(tmp_path: Path) -> str:
    path = tmp_path / "awkward.py"
    path.write_text(PROBLEM)
    return str(path)


def message(judge: Judge, answer: object, spec: str = "erdos") -> str:
    verdict = judge.verdict(spec, returned(answer))
    assert verdict.outcome is Outcome.INVALID
    assert verdict.reward == 0.0
    assert verdict.value is None
    return verdict.message


def test_a_valid_answer_comes_back_with_value_reward_and_construction(judge: Judge) -> None:
    verdict = judge.verdict("erdos", returned([[0.5] * 50, 0.49, 50]))
    assert (verdict.outcome, verdict.value, verdict.reward) == (Outcome.VALID, -0.5, 2.0)
    assert verdict.construction is not None
    assert verdict.construction.tolist() == [0.5] * 50
    assert verdict.metrics["claim_gap"] == pytest.approx(0.01)


def test_a_packing_keeps_its_two_dimensions(judge: Judge) -> None:
    centers = [[0.1 + 0.15 * (i % 6), 0.1 + 0.15 * (i // 6)] for i in range(26)]
    verdict = judge.verdict("cp26", returned(centers))
    assert verdict.construction is not None
    assert verdict.construction.shape == (26, 3)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"\x80\x04K\x01.", "not UTF-8"),  # a pickle
        (b"cos\nsystem\n(S'true'\ntR.", "not JSON"),  # an older one
        (b"[" * 100_000, "nested"),
        (b"[" * 500 + b"]" * 500, "nested more than"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"[1e999]", "overflows"),
        (b"[" + b"9" * 5000 + b"]", "5000 digits"),
        (b"[" + b"9" * 350 + b"]", "too large"),
        (b'{"h": [1], "h": [2]}', "duplicate keys"),
        (b"[0.5] [0.5]", "not JSON"),
        (b"[[0.5, 0.5], 0.1, 2", "not JSON"),
    ],
)
def test_hostile_bytes_end_in_a_verdict_with_a_reason(
    judge: Judge, data: bytes, expected: str
) -> None:
    assert expected in message(judge, data)


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [
        (Cause.RAISED, Outcome.RAISED),
        (Cause.TIMEOUT, Outcome.TIMEOUT),
        (Cause.MEMORY, Outcome.MEMORY),
        (Cause.KILLED, Outcome.KILLED),
        (Cause.NO_RESULT, Outcome.NO_RESULT),
        (Cause.TOO_LARGE, Outcome.TOO_LARGE),
    ],
)
def test_a_failed_execution_keeps_its_cause_and_message(
    judge: Judge, cause: Cause, outcome: Outcome
) -> None:
    execution = Execution(cause=cause, message="why", stdout=b"said")
    assert judge.verdict("erdos", execution) == Verdict(
        outcome=outcome, message="why", stdout="said"
    )


def test_output_is_cut_to_its_last_500_characters_and_marked(judge: Judge) -> None:
    execution = Execution(cause=Cause.RAISED, stdout=b"a" * 600 + b"\xffz", stdout_dropped=0)
    tail = judge.verdict("erdos", execution).stdout
    assert tail.startswith("[earlier output cut]\n")
    assert tail.endswith("a\N{REPLACEMENT CHARACTER}z")
    assert len(tail) == 500 + len("[earlier output cut]\n")


def test_a_proven_bound_broken_is_an_exploit_without_reward(judge: Judge, awkward: str) -> None:
    verdict = judge.verdict(awkward, returned("exploit"))
    assert (verdict.outcome, verdict.reward, verdict.value) == (Outcome.EXPLOIT, 0.0, None)
    assert "alert" in verdict.message
    assert "\n" not in verdict.message


def test_exactness_reaches_the_problem(judge: Judge, awkward: str) -> None:
    assert judge.verdict(awkward, returned("x")).value == 0.5
    assert judge.verdict(awkward, returned("x"), mode="exact").value == 1.0


def test_the_mean_baseline_has_a_reward_formula_of_its_own(judge: Judge) -> None:
    with Judge(1, baseline=True) as other:
        rewards = [j.verdict("erdos", returned([0.5] * 4)).reward for j in (judge, other)]
    assert rewards == [2.0, 1 / (1e-8 + 0.5)]


def test_a_text_answer_is_judged_as_text(judge: Judge, awkward: str) -> None:
    assert judge.verdict_of_text(awkward, "any words").value == 0.5
    assert judge.verdict_of_text("erdos", "[0.5]").outcome is Outcome.INVALID


def test_a_verifier_that_trips_does_not_accept(judge: Judge, awkward: str) -> None:
    assert "KeyError" in message(judge, "bug", awkward)


def test_a_value_that_is_not_finite_is_refused(judge: Judge, awkward: str) -> None:
    assert "not finite" in message(judge, "nan", awkward)


def test_a_verifier_out_of_memory_is_a_verdict(judge: Judge, awkward: str) -> None:
    assert message(judge, "memory", awkward) == "verification exceeded its limits"


def test_a_hung_verifier_is_a_verdict_and_the_next_answer_is_judged(awkward: str) -> None:
    with Judge(1, wall_s=8.0) as pool:
        assert pool.verdict(awkward, returned("x")).value == 0.5
        pool._wall_s = 1.0
        assert message(pool, "sleep", awkward) == "verification exceeded its limits"
        pool._wall_s = 8.0
        assert pool.verdict(awkward, returned("x")).value == 0.5


def test_a_verifier_that_crashes_twice_is_a_verdict(judge: Judge, awkward: str) -> None:
    assert message(judge, "abort", awkward) == "verification crashed: it ended by SIGABRT"


def test_workers_killed_twice_are_no_statement_about_the_answer(
    judge: Judge, awkward: str
) -> None:
    with pytest.raises(JudgeUnavailable, match="SIGKILL"):
        judge.verdict(awkward, returned("kill"))


def test_a_worker_killed_while_idle_is_replaced() -> None:
    with Judge(1) as pool:
        pool.verdict("erdos", returned([0.5]))
        (before,) = pool.pids()
        os.kill(before, signal.SIGKILL)
        assert pool.verdict("erdos", returned([0.5])).value == -0.5
        assert pool.pids() != [before]


def test_a_worker_killed_at_work_is_replaced(awkward: str) -> None:
    with Judge(1) as pool:
        pool.verdict(awkward, returned("x"))
        (worker,) = pool.pids()
        threading.Timer(0.1, os.kill, (worker, signal.SIGKILL)).start()
        assert pool.verdict(awkward, returned("nap")).value == 0.5
        assert pool.pids() != [worker]


def test_many_threads_share_the_pool_without_mixing_answers(judge: Judge) -> None:
    def ask(cells: int) -> float:
        return judge.verdict("erdos", returned([0.5] * cells)).metrics["cells"]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(1, 61))) == [float(n) for n in range(1, 61)]
    assert len(judge.pids()) <= 2


def test_workers_have_an_empty_environment_and_no_torch(judge: Judge, awkward: str) -> None:
    assert judge.verdict(awkward, returned("environment")).value == 0.0
    assert judge.verdict(awkward, returned("modules")).value == 0.0


def test_a_problem_that_cannot_be_loaded_is_infrastructure(judge: Judge, tmp_path: Path) -> None:
    with pytest.raises(JudgeUnavailable, match="no problem named 'nothing'"):
        judge.verdict("nothing", returned([0.5]))
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    with pytest.raises(JudgeUnavailable, match="ZeroDivisionError"):
        judge.verdict(str(broken), returned([0.5]))


def test_an_answer_over_the_size_limit_is_refused_before_parsing() -> None:
    with Judge(1, answer_bytes=100) as pool:
        verdict = pool.verdict("erdos", returned(b"[" + b" " * 200 + b"0.5]"))
        assert verdict.outcome is Outcome.TOO_LARGE
        assert pool.pids() == []


def test_closing_leaves_no_process_and_judging_afterwards_is_an_error() -> None:
    pool = Judge(1)
    pool.verdict("erdos", returned([0.5]))
    (worker,) = pool.pids()
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    with pytest.raises(JudgeUnavailable, match="closed"):
        pool.verdict("erdos", returned([0.5]))


def test_a_worker_leaves_when_its_runner_dies() -> None:
    script = (
        "import time\n"
        "from eurekaflow.verifiers.judge import Judge\n"
        "from eurekaflow.verifiers.sandbox import Cause, Execution\n"
        "judge = Judge(1)\n"
        "judge.verdict('erdos', Execution(cause=Cause.RETURNED, result=b'[0.5]'))\n"
        "print(judge.pids()[0], flush=True)\n"
        "time.sleep(60)\n"
    )
    runner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert runner.stdout is not None
    worker = int(runner.stdout.readline())
    runner.kill()
    runner.wait()
    runner.stdout.close()
    deadline = time.monotonic() + 20
    while _lives(worker):
        assert time.monotonic() < deadline, "the worker outlived its runner"
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def test_a_response_without_a_program_is_unparseable() -> None:
    verdict = unparseable()
    assert (verdict.outcome, verdict.reward) == (Outcome.UNPARSEABLE, 0.0)
