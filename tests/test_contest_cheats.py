"""Every known trick against the contests' judge earns nothing, and for the right reason.

The first line of each program in tests/cheats/ahc*/ says what it is rejected for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from eurekaflow.verifiers import contest_trial, cpp
from eurekaflow.verifiers.contest import Contest
from eurekaflow.verifiers.contest_trial import Trial, trial
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import Outcome, PrerequisiteAbsent
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Cause, Execution, SandboxUnavailable

pytestmark = pytest.mark.slow  # about a minute: each program is compiled

CHEATS = sorted((Path(__file__).parent / "cheats").glob("ahc*/*.cpp"))
GOOD = '#include <cstdio>\nint main() { for (int t = 0; t < 500; t++) std::puts("-1"); }'
BOTH = os.cpu_count() or 1


class Bench:
    """A sandbox and a judge for programs of either contest."""

    def __init__(self, sandbox: ProcessSandbox, judge: Judge) -> None:
        self.sandbox, self.judge = sandbox, judge

    def tried(self, name: str, program: str, *, cases: int = 2, language: str = "cpp") -> Trial:
        problem = load(name).with_cases(cases)
        assert isinstance(problem, Contest)
        return trial(problem, name, program, sandbox=self.sandbox, judge=self.judge,
                     workers=BOTH, language=language)  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    try:
        cpp.require_compiler()
        sandbox = ProcessSandbox(BOTH, levels=("namespaces",))
    except (PrerequisiteAbsent, SandboxUnavailable) as reason:
        pytest.skip(str(reason))
    with sandbox, Judge(BOTH) as judge:
        yield Bench(sandbox, judge)
    assert sandbox.anomalies == 0


@pytest.fixture(autouse=True)
def _compiles_are_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compilation that would never end need not take its whole minute here."""
    limits = replace(cpp.LIMITS, cpu_s=12.0, memory_bytes=1 << 30)
    monkeypatch.setattr(cpp, "LIMITS", limits)


@pytest.mark.parametrize("path", CHEATS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_cheat_earns_nothing_for_the_right_reason(path: Path, bench: Bench) -> None:
    source = path.read_text()
    expected = source.split("\n", 1)[0].removeprefix("// rejected: ")
    found = bench.tried(path.parent.name, source).verdict
    assert found.outcome is not Outcome.VALID
    assert (found.value, found.reward) == (None, 0.0)
    assert re.search(expected, found.message), found.message


@pytest.mark.parametrize("name", ["ahc039", "ahc058"])
@pytest.mark.parametrize("brief", [False, True])
def test_the_start_is_worth_what_its_table_says(name: str, brief: bool, bench: Bench) -> None:
    problem = load(name).with_cases(3)
    [seed] = problem.seeds(None, 1, brief=brief)  # type: ignore[arg-type]
    found = bench.tried(name, seed.program, cases=3).verdict
    assert found.value == pytest.approx(seed.value)
    assert found.metrics["cases"] == 3
    assert found.metrics["sum"] == pytest.approx(3 * seed.value)


def test_one_failing_case_among_good_ones_is_worth_nothing(bench: Bench) -> None:
    """It gives up on the third local case only: the power of its last id is not that of others."""
    last = load("ahc058").generate_input(2).splitlines()[1].split()[-1]  # type: ignore[attr-defined]
    reading = 'int a[14]; for (int& x : a) if (std::scanf("%d", &x) != 1) return 1; '
    program = GOOD.replace("{ for", f"{{ {reading} if (a[13] == {last}) return 3; for")
    assert bench.tried("ahc058", program, cases=2).verdict.outcome is Outcome.VALID
    found = bench.tried("ahc058", program, cases=4).verdict
    assert (found.outcome, found.message) == (Outcome.RAISED, "case 2: exited with status 3")


def test_a_python_program_is_tried_too(bench: Bench) -> None:
    found = bench.tried("ahc058", "print('-1\\n' * 500)", language="python").verdict
    assert (found.outcome, found.value) == (Outcome.VALID, 0.0)


def test_the_net_of_the_first_case_is_kept(bench: Bench) -> None:
    program = "print('4 0 0 9 0 9 9 0 9')"
    found = bench.tried("ahc039", program, language="python").verdict
    assert found.construction is not None
    assert found.construction.tolist() == [[0, 0], [9, 0], [9, 9], [0, 9]]


def test_what_goes_to_standard_error_is_shown_and_not_judged(bench: Bench) -> None:
    program = GOOD.replace("{ for", '{ std::fprintf(stderr, "seen"); for')
    found = bench.tried("ahc058", program).verdict
    assert (found.outcome, found.stdout) == (Outcome.VALID, "seen")


class Slow:
    """A sandbox on a machine that is busy the first time: it adds waiting to that run."""

    name, layers = "slow", ("private-tmp",)

    def __init__(self, inner: ProcessSandbox, *, always: bool) -> None:
        self.inner, self.always, self.runs = inner, always, 0

    def run(self, job: object, limits: object) -> Execution:
        execution = self.inner.run(job, limits)  # type: ignore[arg-type]
        if execution.message or not job.executable:  # type: ignore[attr-defined]
            return execution
        self.runs += 1
        late = self.always or self.runs == 1
        return replace(execution, wall_s=execution.wall_s + 3) if late else execution

    def close(self) -> None:
        pass


@pytest.mark.parametrize("always", [False, True])
def test_a_case_that_waited_for_the_machine_is_run_once_more_and_both_are_told(
    always: bool, bench: Bench
) -> None:
    slow = Slow(bench.sandbox, always=always)
    problem = load("ahc058").with_cases(1)
    assert isinstance(problem, Contest)
    found = trial(problem, "ahc058", GOOD, sandbox=slow, judge=bench.judge, workers=1).verdict
    assert found.outcome is (Outcome.TIMEOUT if always else Outcome.VALID)
    assert slow.runs == 2
    assert found.metrics["rerun_cases"] == 1
    assert found.metrics["rerun_first_wall_s"] > 3
    assert ("run again after" in found.message) is always


def test_no_more_cases_run_at_a_time_than_the_sandbox_has_slots(bench: Bench) -> None:
    program = GOOD.replace("<cstdio>", "<cstdio>\n#include <unistd.h>").replace(
        "{ for", "{ usleep(300000); for"
    )
    execution = bench.tried("ahc058", program, cases=6).execution
    assert execution.wall_s >= 6 * 0.3
    assert bench.sandbox.anomalies == 0


def test_without_a_compiler_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpp.shutil, "which", lambda *_, **__: None)
    with pytest.raises(PrerequisiteAbsent) as raised:
        load("ahc039").require()
    assert raised.value.fix == "apt-get install g++"


def test_a_sandbox_without_a_private_folder_is_refused(bench: Bench) -> None:
    slow = Slow(bench.sandbox, always=False)
    slow.layers = ()  # type: ignore[assignment]
    problem = load("ahc058")
    assert isinstance(problem, Contest)
    with pytest.raises(SandboxUnavailable, match="user namespaces"):
        trial(problem, "ahc058", GOOD, sandbox=slow, judge=bench.judge, workers=1)


def test_memory_beyond_the_contests_is_named() -> None:
    large = Execution(cause=Cause.RETURNED, result=b"", max_rss_bytes=(1 << 30) + 1)
    assert contest_trial._within_limits(large).cause is Cause.MEMORY
