"""Why runs end: budgets from the ledger, the night's deadline, the disk, being stuck, success."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from eurekaflow.flows import cli, diagnosis, launch
from eurekaflow.flows.configure import Surroundings
from eurekaflow.flows.discover import remaining
from eurekaflow.flows.ending import conclude, ending
from eurekaflow.flows.night_plan import plan_of
from eurekaflow.flows.night_runs import Shift, restart
from eurekaflow.flows.night_work import attend
from eurekaflow.models.archive import Archive
from eurekaflow.models.errors import EurekaError, RunOwned
from eurekaflow.models.machine_lock import MachineLock, holder
from eurekaflow.models.policy import Response, Wave
from eurekaflow.models.scripted import ScriptedPolicy
from eurekaflow.models.spending import Spent
from eurekaflow.models.states import NightState
from eurekaflow.tasks import metering, session
from eurekaflow.tasks.seed import seed
from eurekaflow.tasks.session import Ending, Place, Session
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import Seed
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.records import Record
from eurekaflow.verifiers.sandbox import Execution, Job, Limits
from tests.scripted_run import ANSWERS, SIZES, STAGES, add_run, place

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = [pytest.mark.services, pytest.mark.usefixtures("warm_sandbox")]


SIZES_OF_A_NIGHT = {k: v for k, v in {**SIZES, "steps": 1}.items() if k != "minutes"}


def work(where: Place, url: str, **settings: Any) -> tuple[Session, Ending | None]:
    """A run worked on until a rule ends it or its steps are used up."""
    run_id = str(add_run(url, **{"steps": 6, **settings}).uuid)
    session.configure(where)
    return session.of(run_id), go_on(run_id)


def go_on(run_id: str) -> Ending | None:
    """The flow's body without Prefect."""
    s = session.of(run_id)
    seed.fn(run_id)
    for step in remaining(run_id):
        for name, stage in STAGES.items():
            if (found := ending(s, step, name)) is not None:
                return found
            stage.fn(run_id, step)
    return None


def test_every_stage_writes_what_it_spent(archive: Archive, tmp_path: Path) -> None:
    s, _ = work(place(archive.url, tmp_path), archive.url, steps=2, price_output=1e6)
    rows = archive.query(
        "select stage, sum(tokens_in), sum(tokens_out), sum(tokens_trained),"
        " sum(cpu_s), sum(money) from spend group by stage"
    )[1]
    spent = {stage: amounts for stage, *amounts in rows}
    assert set(spent) == set(STAGES)
    assert all(cpu >= 0 for *_, cpu, _ in spent.values())
    [(tokens,)] = archive.query("select sum(tokens) from attempts where step >= 0")[1]
    assert spent["sample"][1] == tokens == spent["sample"][4]
    assert spent["sample"][0] > 0
    assert spent["update"][2] > tokens  # prompts are trained through as well
    assert spent["verify"][3] > 0.05  # the judge and the sandbox are processes of their own
    session.close(str(s.run.uuid))


def test_what_candidates_use_in_containers_is_on_the_bill(
    archive: Archive, tmp_path: Path
) -> None:
    class Elsewhere(ProcessSandbox):
        """Programs run below an engine: their seconds are known from their executions alone."""

        def run(self, job: Job, limits: Limits) -> Execution:
            return replace(super().run(job, limits), cpu_s=100.0)

    where = replace(place(archive.url, tmp_path), make_sandbox=lambda config: Elsewhere(1))
    s, _ = work(where, archive.url, steps=1, sandbox="docker")
    [(ran,)] = archive.query("select count(*) from attempts where cpu_s = 100")[1]
    assert ran >= 6
    [(cpu,)] = archive.query("select sum(cpu_s) from spend where stage = 'verify'")[1]
    assert 100 * ran < cpu < 100 * ran + 100
    session.close(str(s.run.uuid))


def test_measuring_the_seeds_is_on_the_bill(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(s: Session, start: Seed) -> float:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        return start.value

    monkeypatch.setattr("eurekaflow.tasks.seed.measured", busy)
    run_id = str(add_run(archive.url).uuid)
    session.configure(place(archive.url, tmp_path))
    s = session.of(run_id)
    monkeypatch.setitem(vars(s.problem), "service", "postgres")  # others share the problem
    seed.fn(run_id)
    assert archive.spent_in_step(s.run.id, -1).cpu_s >= 0.1
    session.close(run_id)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_cpu_hours": 1e-9}, "cpu hours used"),
        ({"max_tokens": 999, "mean_prompt": 40, "mean_response": 50}, "step takes about 3,"),
    ],
)
def test_a_budget_too_small_for_a_step_ends_a_run_before_its_first(
    archive: Archive, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    s, found = work(place(archive.url, tmp_path), archive.url, **settings)
    assert found is not None
    assert (found.rule, found.pauses) == ("budget", False)
    assert words in found.message
    assert archive.totals(s.run.id).steps == 0
    session.close(str(s.run.uuid))


@dataclass
class Device:
    """A GPU and a processor that work nine seconds on every wave, and on nothing else."""

    seconds: float = 0.0


SMALL = {"groups": 1, "group_size": 4, "wave": 2, "price_gpu_hour": 1.0, "steps": 6}
HOURS_OF_A_STEP = 2 * 9 / 3600  # two waves; as much money, too


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """What the scripted policy works on, by a clock of its own: hours are certain."""
    made, sample = Device(), ScriptedPolicy.sample
    monkeypatch.setattr(ScriptedPolicy, "device", "cuda:0", raising=False)

    def works(policy: ScriptedPolicy, wave: Wave) -> Iterator[Response]:
        made.seconds += 9.0
        return sample(policy, wave)

    monkeypatch.setattr(ScriptedPolicy, "sample", works)
    monkeypatch.setattr(metering, "time", SimpleNamespace(monotonic=lambda: made.seconds))
    monkeypatch.setattr(metering, "tree_cpu_s", lambda: made.seconds)
    return made


@pytest.fixture
def command(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """The `eureka` command on this archive, its flow without Prefect."""

    def flow(s: Session) -> None:
        s.ending = go_on(str(s.run.uuid))
        conclude(s)

    def eureka(*words: str, answers: Sequence[str] = ANSWERS, **settings: object) -> int:
        script = tmp_path / "answers.json"
        script.write_text(json.dumps(answers))
        chosen = {**SIZES, **SMALL, "minutes": None, "model": f"scripted:{script}", **settings}
        given = [f"{name}={value}" for name, value in chosen.items() if value is not None]
        return cli.main([*words, *(word for text in given for word in ("--set", text))])

    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    monkeypatch.setenv("EUREKA_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    monkeypatch.setattr(launch, "services", lambda *_: contextlib.nullcontext(archive.url))
    monkeypatch.setattr(launch, "orchestrated", flow)
    handler = signal.getsignal(signal.SIGTERM)
    yield eureka
    signal.signal(signal.SIGTERM, handler)


KINDS = {
    "attempts": 10,
    "tokens": 31_000,
    "cpu_hours": 2.5 * HOURS_OF_A_STEP,
    "gpu_hours": 2.5 * HOURS_OF_A_STEP,
    "money": 2.5 * HOURS_OF_A_STEP,
}


@pytest.mark.parametrize(("kind", "limit"), KINDS.items())
def test_a_run_ends_before_it_passes_a_budget_with_the_reason_and_exit_code_0(
    archive: Archive,
    device: Device,
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    kind: str,
    limit: float,
) -> None:
    assert command("run", "erdos", **{f"max_{kind}": limit}) == 0
    run = archive.run("last")
    assert (run.state, run.ended_by) == ("finished", "budget")
    assert f"{kind.replace('_', ' ')} used, one more step takes about" in run.message
    assert f"ended by the rule budget: {run.message}" in capsys.readouterr().err
    spent = archive.spent(run.id)
    before_it_is_passed(spent, archive.spent_in_step(run.id, spent.steps - 1), kind, limit)


def before_it_is_passed(spent: Spent, step: Spent, kind: str, limit: float) -> None:
    """Two steps fit into a budget and a third does not; prompts differ in length, hours do not."""
    assert spent.steps == 2 or (kind == "tokens" and spent.steps)
    assert 0 < step.amount(kind) <= spent.amount(kind) <= limit
    assert spent.amount(kind) + step.amount(kind) > limit


@pytest.mark.parametrize(("kind", "limit"), [*KINDS.items(), ("steps", 2)])
def test_each_of_a_nights_budgets_ends_the_night_before_it_is_passed(
    archive: Archive,
    tmp_path: Path,
    device: Device,
    command: Callable[..., int],
    kind: str,
    limit: float,
) -> None:
    added = ["nightly", "add", "erdos", "--name", "n", "--cron", "0 1 * * *"]
    assert command(*added, "--budget", f"{kind}={limit}") == 0
    row, night = archive.schedule("n"), a_night(archive, 1)
    [begun] = archive.nights(row.id)
    here = Surroundings(home=tmp_path)
    said = attend(Shift(archive, archive.url, here, row, plan_of(row.plan), begun))
    assert "paused (night: the night's budget: " in said
    assert f"{kind.replace('_', ' ')} used" in said
    [ended] = archive.nights(row.id)
    assert (ended.state, ended.message) == ("done", said)
    run = archive.run("last")
    assert (run.state, run.ended_by) == ("paused", "night")
    spent = archive.spent_in_night(night)
    step = archive.spent_in_step(run.id, spent.steps - 1)
    before_it_is_passed(spent, replace(step, steps=1), kind, limit)


def test_a_budget_used_up_without_a_valid_attempt_gives_exit_code_4(
    archive: Archive, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("run", "erdos", answers=ANSWERS[3:], max_attempts=4) == 4
    assert archive.run("last").ended_by == "budget"
    assert "without one valid attempt" in capsys.readouterr().err


@pytest.mark.parametrize("nightly", [False, True])
def test_a_budget_used_up_in_the_middle_of_a_step_ends_it_there_with_everything_saved(
    archive: Archive, tmp_path: Path, device: Device, nightly: bool
) -> None:
    """A run of which nothing is known begins its first step, whatever that turns out to cost."""
    limit = HOURS_OF_A_STEP / 2
    where = place(archive.url, tmp_path)
    if nightly:
        where = replace(where, night=a_night(archive, 1), night_budget={"gpu_hours": limit})
    bound = {} if nightly else {"max_gpu_hours": limit}
    s, s.ending = work(where, archive.url, **{**SMALL, **bound})
    run, run_id = s.run, str(s.run.uuid)
    conclude(s)
    session.close(run_id)
    stopped = archive.run(run.id)
    rule = ("paused", "night") if nightly else ("finished", "budget")
    assert (stopped.state, stopped.ended_by) == rule
    assert "0.005 of 0.0025 gpu hours used" in stopped.message
    at = archive.progress(run.id)
    assert (at.step, at.stage, at.missing) == (0, "sampled", {})
    assert archive.check_rebuild(run.id) == []
    session.configure(place(archive.url, tmp_path))
    with archive.hold(run.id, owner="test") as hold:
        archive.reconfigure(hold, steps=1, max_gpu_hours=1.0)
    assert go_on(run_id) is None
    assert archive.totals(run.id).steps == 1
    assert archive.spent(run.id).gpu_s == device.seconds == 18  # nothing was sampled again
    session.close(run_id)


def test_a_budget_counts_what_was_spent_before_a_resume(archive: Archive, tmp_path: Path) -> None:
    where = place(archive.url, tmp_path)
    s, _ = work(where, archive.url, steps=2)
    run, run_id = s.run, str(s.run.uuid)
    session.close(run_id)
    with archive.hold(run.id, owner="test") as hold:
        archive.reconfigure(hold, steps=6, max_attempts=36)
    found = go_on(run_id)
    assert found is not None
    assert found.rule == "budget"
    assert archive.totals(run.id).steps == 3
    session.close(run_id)


def test_a_nights_budget_counts_that_night_alone_and_pauses(
    archive: Archive, tmp_path: Path
) -> None:
    first = a_night(archive, 1)
    budget = {"steps": 2.0}
    where = replace(place(archive.url, tmp_path), night=first, night_budget=budget)
    s, found = work(where, archive.url)
    assert found is not None
    assert (found.rule, found.pauses) == ("night", True)
    assert archive.spent_in_night(first).steps == 2
    session.close(str(s.run.uuid))
    archive.end_night(first, NightState.DONE, "")
    session.configure(replace(where, night=a_night(archive, 2)))
    go_on(str(s.run.uuid))
    assert archive.totals(s.run.id).steps == 4
    session.close(str(s.run.uuid))


def test_a_night_tried_again_later_pays_for_its_own_steps_alone(
    archive: Archive, tmp_path: Path
) -> None:
    night = a_night(archive, 1)
    where = replace(place(archive.url, tmp_path), night=night, night_budget={"steps": 2.0})
    s, _ = work(where, archive.url)
    run_id = str(s.run.uuid)
    session.close(run_id)
    archive.end_night(night, NightState.FAILED, "cancelled")
    session.configure(replace(place(archive.url, tmp_path), night=a_night(archive, 2)))
    with archive.hold(s.run.id, owner="test") as hold:
        archive.reconfigure(hold, steps=4)
    go_on(run_id)
    session.close(run_id)
    assert a_night(archive, 1) == night  # Retry on Prefect's page
    assert archive.totals(s.run.id).steps == 4
    spent = archive.spent_in_night(night)
    assert (spent.steps, spent.attempts) == (2, 24)


def a_night(archive: Archive, day: int) -> int:
    """A night under way."""
    if not archive.schedules():
        archive.add_schedule("n", cron="0 1 * * *", timezone="UTC", plan={"problem": "erdos"})
    due = datetime(2026, 11, day, 1, tzinfo=UTC)
    row = archive.begin_night(
        archive.schedule("n").id, due, kind="scheduled", host="here", deadline=None
    )
    assert row is not None
    return row.id


def test_a_deadline_ends_a_run_at_a_stage_boundary_with_everything_saved(
    archive: Archive, tmp_path: Path
) -> None:
    where = replace(place(archive.url, tmp_path), deadline=time.time() + 1.5)
    s, found = work(where, archive.url, steps=1000)
    assert found is not None
    assert (found.rule, found.pauses) == ("deadline", True)
    assert archive.check_rebuild(s.run.id) == []
    session.close(str(s.run.uuid), "paused")
    session.configure(place(archive.url, tmp_path))
    with archive.hold(s.run.id, owner="test") as hold:
        archive.reconfigure(hold, steps=archive.progress(s.run.id).step + 1)
    assert go_on(str(s.run.uuid)) is None
    session.close(str(s.run.uuid))


def test_a_disk_nearly_full_pauses_a_run(archive: Archive, tmp_path: Path) -> None:
    s, found = work(place(archive.url, tmp_path), archive.url, disk_reserve_mb=10**9)
    assert found is not None
    assert (found.rule, found.pauses) == ("disk", True)
    session.close(str(s.run.uuid))


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"target": 0.45}, "target"),
        ({"stop_on_record": True}, "record"),
        ({"stop_flat": 1, "reuse": "fixed", "temperature": 0.01}, "flat"),
        ({"stop_entropy": 5.0}, "entropy"),
        ({"stop_validity": 1.0}, "validity"),
    ],
)
def test_a_stop_rule_ends_a_run_and_show_says_what_it_means(
    archive: Archive,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    rule: str,
) -> None:
    easy = Record(holder="Somebody", score=0.45, kind="human", source="a paper")
    monkeypatch.setattr(type(load("erdos")), "record", lambda *_, **__: easy)
    s, found = work(place(archive.url, tmp_path), archive.url, **{"steps": 12, **settings})
    assert found is not None
    assert (found.rule, found.pauses) == (rule, False)
    s.ending = found
    conclude(s)
    [(best,)] = archive.query("select best_score from runs")[1]
    assert best < 0.45 or rule not in ("target", "record")
    run = {"run": str(s.run.uuid), "state": "finished", "ended_by": rule}
    said = diagnosis.diagnose({**run, "message": found.message}, [])
    assert found.message in said[0]
    assert "eureka" in said[0] or "restart" in said[0]
    found_again = archive.run(s.run.id)
    assert (found_again.state, found_again.ended_by) == ("finished", rule)
    assert found_again.message == found.message
    session.close(str(s.run.uuid))


def test_a_machine_is_one_nights_at_a_time_and_its_holder_is_named(archive: Archive) -> None:
    with MachineLock(archive.url, "host gpu 0", owner="the night of erdos"):
        with pytest.raises(RunOwned, match="host gpu 0 is in use by the night of erdos"):
            MachineLock(archive.url, "host gpu 0", owner="another", shared=True)
        MachineLock(archive.url, "host gpu 1", owner="another").release()
        assert holder(archive.url, "host gpu 0") == "the night of erdos"
    assert holder(archive.url, "host gpu 0") == ""
    MachineLock(archive.url, "host gpu 0", owner="another").release()


def test_a_run_that_keeps_crashing_is_resumed_so_often_and_no_more(archive: Archive) -> None:
    a_night(archive, 1)
    schedule = archive.schedule("n").id
    run = add_run(archive.url)
    archive.hold(run.id, owner="a process that is killed")._drop()
    expire = "update archive.runs set lease_expires_at = now() - interval '1 s'"
    with archive._read() as connection:
        connection.exec_driver_sql(expire)
    for again in (1, 2):
        assert archive.crashed_runs(schedule, most=2) == [(run.uuid, True)]
        assert archive.count_resume(run.uuid) == again
    assert archive.crashed_runs(schedule, most=2) == [(run.uuid, False)]
    assert archive.crashed_runs(schedule, most=0) == [(run.uuid, False)]
    with archive._read() as connection:  # the second resume got on before it was killed, too
        step = "insert into archive.steps (run_id, step, stage, version_sampled) values"
        connection.exec_driver_sql(f"{step} ({run.id}, 0, 'committed', 0)")
    assert archive.crashed_runs(schedule, most=2) == [(run.uuid, True)]
    assert archive.count_resume(run.uuid) == 1


def test_a_killed_owners_lease_is_not_waited_for_and_a_living_ones_is_respected(
    archive: Archive,
) -> None:
    a_night(archive, 1)
    schedule, host = archive.schedule("n").id, socket.gethostname()
    run = add_run(archive.url)
    with archive.hold(run.id, owner="this process"):
        archive.expire_dead(host, lambda pid: False)  # its lock says that it lives
        assert archive.crashed_runs(schedule, most=2) == []
    archive.hold(run.id, owner="a process that is killed")._drop()
    archive.expire_dead(host, lambda pid: pid == os.getpid())
    archive.expire_dead("another host", lambda pid: False)
    assert archive.crashed_runs(schedule, most=2) == []
    until = time.monotonic() + 10  # the server notices a lost connection a moment later
    while not archive.crashed_runs(schedule, most=2) and time.monotonic() < until:
        archive.expire_dead(host, lambda pid: False)
        time.sleep(0.05)
    assert archive.crashed_runs(schedule, most=2) == [(run.uuid, True)]


def test_a_night_over_is_not_begun_again_and_a_crashed_one_is(archive: Archive) -> None:
    night = a_night(archive, 1)
    assert a_night(archive, 1) == night
    archive.end_night(night, NightState.DONE, "it did something")
    with pytest.raises(AssertionError):
        a_night(archive, 1)
    [row] = archive.nights(archive.schedule("n").id)
    assert (row.starts, row.state, row.message) == (2, "done", "it did something")


def test_a_night_in_which_a_run_breaks_counts_as_failed_and_says_why(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_night(archive, 1)
    row = archive.schedule("n")
    [night] = archive.nights(row.id)
    plan = plan_of({"problem": "erdos", "settings": {**SIZES_OF_A_NIGHT}})
    shift = Shift(archive, archive.url, Surroundings(home=tmp_path), row, plan, night)

    def broken(*_: object, **__: object) -> None:
        raise EurekaError("the policy cannot be loaded")

    monkeypatch.setattr(launch, "work", broken)
    with pytest.raises(EurekaError, match="stopped, the policy cannot be loaded"):
        attend(shift)
    [ended] = archive.nights(row.id)
    assert ended.state == "failed"
    assert ended.message.startswith("started ")


def restarted(archive: Archive, s: Session, home: Path) -> tuple[UUID, str]:
    """The run that a night makes of one that is stuck, and what it says of it."""
    session.close(str(s.run.uuid), "finished")
    a_night(archive, 1)
    row = archive.schedule("n")
    archive.assign_run(s.run.uuid, row.id)
    plan = plan_of({"problem": "erdos", "settings": {**SIZES_OF_A_NIGHT}})
    [night] = archive.nights(row.id)
    last = archive.last_run(row.id)
    assert last is not None
    made, verb, _ = restart(
        Shift(archive, archive.url, Surroundings(home=home), row, plan, night), last
    )
    assert made is not None
    return made, verb


def test_a_stuck_run_is_restarted_from_its_best_answers_with_fresh_weights(
    archive: Archive, tmp_path: Path
) -> None:
    s, _ = work(place(archive.url, tmp_path), archive.url, steps=2)
    made, verb = restarted(archive, s, tmp_path)
    assert "fresh weights" in verb
    fresh = archive.run(made)
    assert (fresh.seed, fresh.version) == (s.run.seed + 1, 0)
    best = archive.best(s.run.id)
    assert best is not None
    assert max(x.value or -9 for x in archive.attempts(fresh.id, -1)) == best.value
    session.configure(place(archive.url, tmp_path))
    assert go_on(str(made)) is None
    assert archive.totals(fresh.id).steps == 1
    assert len(archive.attempts(fresh.id, -1)) == 2
    session.close(str(made))


def test_a_restarted_run_names_the_stuck_one_and_show_says_it_in_words(
    archive: Archive,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    s, _ = work(place(archive.url, tmp_path), archive.url, steps=1)
    made, _ = restarted(archive, s, tmp_path)
    fresh = archive.run(made)
    assert (fresh.forked_from, fresh.fork_step) == (s.run.id, None)
    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    assert cli.main(["show", str(made)]) == 0
    said = f"restarted from {str(s.run.uuid)[:8]} with fresh weights"
    assert said in capsys.readouterr().out
    assert cli.main(["show", str(s.run.uuid)]) == 0
    assert "restarted" not in capsys.readouterr().out
