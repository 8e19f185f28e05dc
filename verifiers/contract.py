"""The conformance tests that every sandbox backend must pass; shipped for authors of backends.

Subclass `SandboxContract` in a test module and give it a `sandbox` fixture (class or module scope)
that yields the backend. A backend without a writable folder sets `has_scratch = False`.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from eurekaflow.verifiers.contract_walls import QUICK, SandboxWalls, refused, run, value
from eurekaflow.verifiers.sandbox import Cause, Job, Limits, Sandbox

__all__ = ["QUICK", "SandboxContract", "refused", "run", "value"]


class SandboxContract(SandboxWalls):
    """See the module; each test is one property of the contract in `sandbox.py`."""

    def test_floats_cross_exactly(self, sandbox: Sandbox) -> None:
        numbers = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 2**0.5]
        body = f"return np.array([float.fromhex(x) for x in {[x.hex() for x in numbers]}])"
        assert [x.hex() for x in value(run(sandbox, body))] == [x.hex() for x in numbers]

    def test_half_precision_crosses_as_its_exact_double(self, sandbox: Sandbox) -> None:
        assert value(run(sandbox, "return np.array([0.1], np.float16)")) == [
            float(np.float16(0.1))
        ]

    def test_nested_values_cross(self, sandbox: Sandbox) -> None:
        body = "return {'a': (1, np.int64(2), [True, np.bool_(False)]), 3: None, 's': 'é\\ud800'}"
        expected = {"a": [1, 2, [True, False]], "3": None, "s": "é\ud800"}
        assert value(run(sandbox, body)) == expected

    def test_non_finite_numbers_cross_as_they_are(self, sandbox: Sandbox) -> None:
        execution = run(sandbox, "return [np.nan, np.inf, -np.inf]")
        assert execution.result == b"[NaN,Infinity,-Infinity]"

    @pytest.mark.parametrize(
        "what", ["1j", "object()", "np.ma.array([1.0], mask=[1])", "{1, 2}", "b'x'"]
    )
    def test_values_without_honest_json_raise(self, sandbox: Sandbox, what: str) -> None:
        assert run(sandbox, f"return {what}").cause is Cause.RAISED

    def test_a_cyclic_value_raises(self, sandbox: Sandbox) -> None:
        execution = run(sandbox, "x = []\nx.append(x)\nreturn x")
        assert execution.cause is Cause.RAISED
        assert "RecursionError" in execution.message

    def test_only_accepted_arguments_are_passed(self, sandbox: Sandbox) -> None:
        arguments = {"a": 1, "b": [2.5], "c": 3}
        some = Job(
            program="def f(a, *, b=0):\n  return [a, b]", entry_point="f", arguments=arguments
        )
        every = Job(program="def f(**k):\n  return k", entry_point="f", arguments=arguments)
        assert value(sandbox.run(some, QUICK)) == [1, [2.5]]
        assert value(sandbox.run(every, QUICK)) == arguments

    def test_arrays_are_bound_by_name(self, sandbox: Sandbox) -> None:
        given = np.arange(6.0).reshape(2, 3).T  # not contiguous
        body = "X[0] += 1\nreturn [X, X.shape, str(X.dtype), empty.shape]"
        execution = run(sandbox, body, arrays={"X": given, "empty": np.empty((0, 2))})
        changed = [[1.0, 4.0], [1.0, 4.0], [2.0, 5.0]]
        assert value(execution) == [changed, [3, 2], "float64", [0, 2]]
        assert given[0, 0] == 0

    def test_the_prelude_runs_first_in_the_same_namespace(self, sandbox: Sandbox) -> None:
        job = Job(program="y = x + 1\ndef f():\n  return g(y)", entry_point="f",
                  prelude="x = 1\ndef g(v):\n  return v * 10")  # fmt: skip
        assert value(sandbox.run(job, QUICK)) == 20

    def test_seeds_make_draws_repeatable(self, sandbox: Sandbox) -> None:
        body = (
            "import random\nreturn [random.random(), np.random.rand(), list({'a', 'b', 'c', 'd'})]"
        )
        first, again, other = (value(run(sandbox, body, seed=s)) for s in (7, 7, 8))
        assert first == again
        assert first[:2] != other[:2]

    def test_scipy_and_dataclasses_work(self, sandbox: Sandbox) -> None:
        body = """
from dataclasses import dataclass
from scipy.optimize import minimize
@dataclass
class Point:
    x: float
return round(minimize(lambda x: (x[0] - 3) ** 2, [Point(0.0).x]).x[0], 3)
"""
        assert value(run(sandbox, body)) == 3.0

    def test_threads_work(self, sandbox: Sandbox) -> None:
        body = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    return list(pool.map(lambda x: x * x, range(5)))
"""
        assert value(run(sandbox, body)) == [0, 1, 4, 9, 16]

    def test_an_exception_is_named_with_its_line(self, sandbox: Sandbox) -> None:
        execution = run(sandbox, "x = 1\nraise ValueError('seen 17')")
        assert execution.cause is Cause.RAISED
        assert execution.message == "ValueError: seen 17 (line 3)"
        assert b"Traceback" in execution.stdout

    @pytest.mark.parametrize(
        ("program", "said"),
        [
            ("def f(:", "SyntaxError"),
            ("def f():\n  raise SystemExit(3)", "SystemExit: 3"),
            ("import sys\nsys.exit(0)", "SystemExit"),
            ("def f():\n  raise KeyboardInterrupt", "KeyboardInterrupt"),
            ("def g(): return 1", "no function 'f'"),
            ("def f(): return f()", "RecursionError"),
            ("class E(Exception):\n  def __str__(self): raise self\ndef f(): raise E", "E"),
            ("x = '\\ud800'\ndef f(): raise ValueError(x)", "ValueError"),
            ("def f(): return 10 ** 5000", "ValueError"),
            ("\0", ""),
        ],
    )
    def test_whatever_is_raised_is_data(self, sandbox: Sandbox, program: str, said: str) -> None:
        execution = sandbox.run(Job(program=program, entry_point="f"), QUICK)
        assert execution.cause is Cause.RAISED
        assert said in execution.message
        assert execution.result is None

    @pytest.mark.parametrize("body", ["while True: pass", "import time\ntime.sleep(60)"])
    def test_a_wall_clock_limit_ends_it(self, sandbox: Sandbox, body: str) -> None:
        started = time.monotonic()
        execution = run(sandbox, body, Limits(wall_s=0.5, cpu_s=10))
        assert execution.cause is Cause.TIMEOUT
        assert 0.4 < execution.wall_s < 3
        assert time.monotonic() - started < 10

    def test_signals_cannot_put_off_the_wall_clock(self, sandbox: Sandbox) -> None:
        body = """
import signal, threading, time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
threading.Thread(target=time.sleep, args=(60,)).start()
while True:
    try:
        while True: pass
    except BaseException: pass
"""
        assert run(sandbox, body, Limits(wall_s=0.5)).cause is Cause.TIMEOUT

    def test_a_cpu_limit_ends_it(self, sandbox: Sandbox) -> None:
        execution = run(sandbox, "while True: pass", Limits(wall_s=20, cpu_s=1))
        assert execution.cause is Cause.TIMEOUT
        assert "CPU" in execution.message

    @pytest.mark.parametrize(
        "body",
        ["return len(bytearray(1 << 30))", "np.ones(1 << 27)", "x = [0]\nwhile True: x += x"],
    )
    def test_a_memory_bomb_hits_the_limit(self, sandbox: Sandbox, body: str) -> None:
        assert run(sandbox, body, Limits(memory_bytes=1 << 28)).cause is Cause.MEMORY

    def test_memory_under_the_limit_is_granted(self, sandbox: Sandbox) -> None:
        body = "return int(np.ones(12 << 20, np.uint8).sum())"
        assert value(run(sandbox, body, Limits(memory_bytes=64 << 20))) == 12 << 20

    def test_output_is_kept_to_its_cap_and_the_rest_counted(self, sandbox: Sandbox) -> None:
        body = "import sys\nprint('é' * 50000)\nprint('err', file=sys.stderr)\nreturn 1"
        execution = run(sandbox, body, Limits(stdout_bytes=1000))
        assert value(execution) == 1
        assert len(execution.stdout) == 1000
        assert execution.stdout_dropped == 100_000 + 1 + 4 - 1000

    def test_output_before_a_timeout_is_kept(self, sandbox: Sandbox) -> None:
        execution = run(sandbox, "print('so far')\nwhile True: pass", Limits(wall_s=0.5))
        assert execution.stdout == b"so far\n"

    def test_a_result_over_the_cap_is_too_large(self, sandbox: Sandbox) -> None:
        limits = Limits(result_bytes=1000)
        assert run(sandbox, "return [0.5] * 10000", limits).cause is Cause.TOO_LARGE
        assert value(run(sandbox, "return 'x' * 998", limits)) == "x" * 998

    def test_a_flood_of_every_descriptor_is_bounded(self, sandbox: Sandbox) -> None:
        body = """
import os
while True:
    for number in range(3, 64):
        try: os.write(number, b'R' * 65536)
        except OSError: pass
"""
        execution = run(sandbox, body, Limits(wall_s=2, result_bytes=1000))
        assert execution.cause in (Cause.TOO_LARGE, Cause.TIMEOUT)
        assert execution.result is None

    @pytest.mark.parametrize("code", [0, 1, 3])
    def test_leaving_without_a_result_is_no_result(self, sandbox: Sandbox, code: int) -> None:
        execution = run(sandbox, f"import os\nos._exit({code})")
        assert execution.cause is Cause.NO_RESULT
        assert str(code) in execution.message

    @pytest.mark.parametrize(
        "body", ["import ctypes\nctypes.string_at(8)", "import os\nos.abort()"]
    )
    def test_a_crash_is_killed(self, sandbox: Sandbox, body: str) -> None:
        execution = run(sandbox, body)
        assert execution.cause is Cause.KILLED
        assert "SIG" in execution.message

    def test_running_times_and_memory_are_reported(self, sandbox: Sandbox) -> None:
        execution = run(
            sandbox, "import time\ntime.sleep(0.2)\nreturn int(np.ones(4 << 20).sum())"
        )
        assert 0.2 <= execution.wall_s < 3
        assert 0 < execution.cpu_s < 3
        assert execution.max_rss_bytes > 32 << 20
        assert execution.worker

    def test_many_threads_run_jobs_of_their_own(self, sandbox: Sandbox) -> None:
        def one(number: int) -> Any:
            body = "import time\ntime.sleep(0.01)\nreturn int(X[0])"
            return value(run(sandbox, body, arrays={"X": np.array([float(number)])}))

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(one, range(40))) == list(range(40))

    def test_bad_candidates_do_not_disturb_good_ones(self, sandbox: Sandbox) -> None:
        bad = ["import os\nos._exit(1)", "while True: pass", "import ctypes\nctypes.string_at(8)",
               "return len(bytearray(1 << 40))"]  # fmt: skip
        bodies = [*bad, "return 1"] * 4
        with ThreadPoolExecutor(4) as pool:
            ends = list(pool.map(lambda body: run(sandbox, body, Limits(wall_s=1)).cause, bodies))
        expected = [Cause.NO_RESULT, Cause.TIMEOUT, Cause.KILLED, Cause.MEMORY, Cause.RETURNED]
        assert ends == expected * 4
