"""Work that breaks what works on it is given up; services that are broken are not blamed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eurekaflow.models import schema
from eurekaflow.models.archive import Archive
from eurekaflow.models.errors import DeviceUnavailable
from eurekaflow.models.policy import Response, Wave
from eurekaflow.models.scripted import ScriptedPolicy
from eurekaflow.tasks import session
from eurekaflow.tasks.poison import Culprit, StepStuck, tried
from eurekaflow.tasks.retry import transient
from eurekaflow.verifiers.judge import JudgeUnavailable
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Execution, Job, Limits, SandboxUnavailable
from tests.scripted_run import ANSWERS, add_run, place, work

SIZES: dict[str, Any] = {"groups": 2, "group_size": 4, "wave": 4, "steps": 1, "workers": 2}
PROBLEM = """
import os
from eurekaflow.verifiers.problem import Judgement, Problem, Seed

class Deadly(Problem):
    name = "deadly"
    direction = "max"

    def statement(self, *, brief=False):
        return "Return a number."

    def opening(self):
        return "```python\\ndef run(seed, budget_s):\\n    return"

    def seeds(self, rng, count, *, brief=False):
        return [Seed(value=0.0, program="def run(seed, budget_s):\\n    return 0")] * count

    def judge(self, answer, *, exact=False):
        if answer == 666:
            os.kill(os.getpid(), 9)
        return Judgement(value=float(answer))
"""


class Fragile(ProcessSandbox):
    """A real sandbox whose zygotes are killed whenever a program says `doomed`."""

    def run(self, job: Job, limits: Limits) -> Execution:
        if "doomed" in job.program or self.broken:
            self.kill_zygotes()
        return super().run(job, limits)

    broken = False

    def kill_zygotes(self) -> None:
        for worker in tuple(self._workers):
            os.kill(worker.pid, signal.SIGKILL)

    def _launch(self, stack: str) -> Any:
        worker = super()._launch(stack)
        if self.broken or self.dooming:
            os.kill(worker.pid, signal.SIGKILL)
        return worker

    dooming = False

    def _run_in(self, slot: Any, job: Job, limits: Limits) -> Execution:
        self.dooming = "doomed" in job.program
        try:
            return super()._run_in(slot, job, limits)
        finally:
            self.dooming = False


class Moody(ScriptedPolicy):
    """Fails on every prompt of a group in `poisoned`; on everything when `broken`."""

    poisoned: frozenset[int] = frozenset()
    broken = False

    def sample(self, wave: Wave) -> Iterator[Response]:
        if self.broken or (wave.group_index in self.poisoned and len(wave.prompt_ids) > 8):
            raise MemoryError("out of memory on the device")
        return super().sample(wave)


@pytest.fixture
def archive(database_url: str) -> Iterator[Archive]:
    schema.bootstrap(database_url)
    opened = Archive(database_url)
    yield opened
    opened.close()


def lost(archive: Archive, run: int) -> list[tuple[Any, ...]]:
    sql = """select outcome, value, reward, message from archive.attempts
        where run_id = %s and state = 'lost'"""
    return archive.query(sql, params=(run,), as_reader=False)[1]


def test_work_is_blamed_only_after_two_failures_of_a_kind_beside_good_work() -> None:
    faults = iter([ValueError("a"), KeyError("b"), ValueError("c")])

    def work() -> None:
        raise next(faults)

    assert tried(work, lambda: None) == Culprit("ValueError: c")
    assert tried(lambda: 7, lambda: 1 / 0) == 7


def test_broken_services_are_raised_and_nothing_is_blamed() -> None:
    def broken() -> None:
        raise SandboxUnavailable("no zygote starts")

    with pytest.raises(SandboxUnavailable):
        tried([].pop, broken)


@pytest.mark.services
class TestGivenUp:
    """One bad piece of work costs itself."""

    def test_an_answer_that_kills_every_judge_is_lost_and_the_others_are_judged(
        self, archive: Archive, tmp_path: Path
    ) -> None:
        problem = tmp_path / "deadly.py"
        problem.write_text(PROBLEM)
        run = add_run(archive.url, **{**SIZES, "problem": str(problem)})
        answers = (" 666\n```", " 1\n```", " 2\n```", " 3\n```")
        here = place(archive.url, tmp_path)
        session.configure(replace(
            here, make_policy=lambda c, _: ScriptedPolicy(
                lambda wave, attempt, _: answers[attempt], seed=c.seed)))  # fmt: skip
        work(str(run.uuid))
        session.close(str(run.uuid), "finished")
        rows = lost(archive, run.id)
        assert [row[:3] for row in rows] == [(None, None, None)] * 2
        assert all("JudgeUnavailable: two verifier workers were lost" in row[3] for row in rows)
        assert archive.totals(run.id).valid == 6
        assert archive.check_rebuild(run.id) == []

    def test_a_program_that_kills_every_zygote_is_lost_and_the_others_are_judged(
        self, archive: Archive, tmp_path: Path
    ) -> None:
        run = add_run(archive.url, **{**SIZES, "workers": 1})
        answers = (" h) # doomed\n```", *ANSWERS[:3])
        session.configure(replace(
            place(archive.url, tmp_path),
            make_sandbox=lambda c: Fragile(c.workers),
            make_policy=lambda c, _: ScriptedPolicy(
                lambda wave, attempt, _: answers[attempt], seed=c.seed)))  # fmt: skip
        work(str(run.uuid))
        session.close(str(run.uuid), "finished")
        rows = lost(archive, run.id)
        assert [row[:3] for row in rows] == [(None, None, None)] * 2
        assert all("SandboxUnavailable: a job failed on 2 zygotes" in row[3] for row in rows)
        assert archive.totals(run.id).valid == 6

    def test_a_prompt_that_cannot_be_sampled_is_lost_and_its_group_does_not_count(
        self, archive: Archive, tmp_path: Path
    ) -> None:
        run = add_run(archive.url, **SIZES)
        policy = Moody(ANSWERS)
        policy.poisoned = frozenset({1})
        session.configure(replace(place(archive.url, tmp_path), make_policy=lambda c, _: policy))
        work(str(run.uuid))
        session.close(str(run.uuid), "finished")
        rows = lost(archive, run.id)
        assert rows == [(None, None, None, "MemoryError: out of memory on the device")] * 4
        assert archive.nodes(run.id).total == 1
        assert archive.check_rebuild(run.id) == []


@pytest.mark.services
class TestNotBlamed:
    """What is broken for everybody leaves the run as it was."""

    def test_a_broken_sandbox_loses_no_attempt_and_the_run_goes_on_when_it_is_mended(
        self, archive: Archive, tmp_path: Path
    ) -> None:
        run = add_run(archive.url, **{**SIZES, "workers": 1})
        made = list[Fragile]()

        def sandbox(_: object) -> Fragile:
            made.append(Fragile(1))
            made[-1].broken = len(made) == 1
            return made[-1]

        session.configure(replace(place(archive.url, tmp_path), make_sandbox=sandbox))
        with pytest.raises(SandboxUnavailable) as failure:
            work(str(run.uuid))
        assert transient(None, None, Failing(failure.value))
        assert (lost(archive, run.id), len(archive.unverified(run.id, 0))) == ([], 8)
        work(str(run.uuid))  # as Prefect's retry does: in the same process, with what is open
        session.close(str(run.uuid), "finished")
        assert archive.totals(run.id).attempts == 8
        assert lost(archive, run.id) == []

    def test_a_step_of_which_nothing_works_stops_once_and_is_passed_the_second_time(
        self, archive: Archive, tmp_path: Path
    ) -> None:
        run = add_run(archive.url, **SIZES)
        policy = Moody(ANSWERS)
        policy.poisoned = frozenset({0, 1})
        session.configure(replace(place(archive.url, tmp_path), make_policy=lambda c, _: policy))
        with pytest.raises(StepStuck, match="out of memory on the device"):
            work(str(run.uuid))
        assert lost(archive, run.id) == []
        session.close(str(run.uuid))
        work(str(run.uuid))
        session.close(str(run.uuid), "finished")
        assert len(lost(archive, run.id)) == 8
        assert archive.totals(run.id).steps == 1
        assert archive.check_rebuild(run.id) == []

    def test_a_broken_device_is_raised_every_time_and_nothing_is_lost(
        self, archive: Archive, tmp_path: Path
    ) -> None:
        run = add_run(archive.url, **SIZES)
        policy = Moody(ANSWERS)
        policy.broken = True
        session.configure(replace(place(archive.url, tmp_path), make_policy=lambda c, _: policy))
        for _ in range(3):
            with pytest.raises(DeviceUnavailable, match="out of memory on the device"):
                work(str(run.uuid))
        assert lost(archive, run.id) == []
        policy.broken = False
        work(str(run.uuid))
        session.close(str(run.uuid), "finished")
        assert archive.totals(run.id).attempts == 8


class Failing:
    """A failed task's state, as Prefect hands it to the retry condition."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def result(self) -> None:
        raise self.error


def test_a_lost_judge_is_retried() -> None:
    assert transient(None, None, Failing(JudgeUnavailable("no worker")))
    assert not transient(None, None, Failing(ValueError("a candidate's")))
