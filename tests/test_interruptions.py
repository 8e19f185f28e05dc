"""The database goes away under a writer, or everybody writes at once: nothing lost, no growth."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import psycopg
import pytest
from sqlalchemy import event

from eurekaflow.flows import prefect_faults, sitting
from eurekaflow.models.archive import Archive, Hold, RunRow
from eurekaflow.models.errors import ArchiveInterrupted, ArchiveUnavailable
from eurekaflow.tasks.session import Session
from tests.archives import new_run, planned_step, response, seeds, verdict

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = pytest.mark.services

OTHERS = """
    select {} from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
        and backend_type like 'client%%'"""


@pytest.fixture
def patient(archive: Archive) -> Iterator[Archive]:
    """An archive as a runner opens it."""
    opened = Archive(archive.url, patience_s=30.0)
    yield opened
    opened.close()


@pytest.fixture
def owned(patient: Archive) -> Iterator[Hold]:
    run: RunRow = new_run(patient)
    with patient.hold(run.id, owner="the test") as held:
        yield held


@pytest.fixture
def admin(archive: Archive) -> Iterator[psycopg.Connection]:
    with psycopg.connect(archive.url, autocommit=True) as connection:
        yield connection


def at_first_commit(archive: Archive, act: object) -> None:
    """Call `act` once, when the archive's next transaction is about to commit."""
    done: list[bool] = []

    def once(_connection: object) -> None:
        if not done:
            done.append(True)
            act()  # type: ignore[operator]

    event.listen(archive._engine, "commit", once)


def test_a_connection_lost_before_the_commit_is_made_good_by_the_same_call(
    patient: Archive, owned: Hold, admin: psycopg.Connection
) -> None:
    planned_step(patient, owned)
    ended = OTHERS.format("pg_terminate_backend(pid, 2000)")
    at_first_commit(patient, lambda: admin.execute(ended))
    count = patient.store_responses(owned, 0, 0, [response(i) for i in range(4)])
    assert (count.inserted, count.different) == (4, 0)
    assert patient.missing(owned.run_id, 0) == {}


def test_a_transaction_killed_for_idling_is_made_again(
    patient: Archive, owned: Hold, admin: psycopg.Connection
) -> None:
    planned_step(patient, owned)

    def idle() -> None:
        time.sleep(0.5)

    name = admin.info.dbname
    admin.execute(f"alter database {name} set idle_in_transaction_session_timeout = '100ms'")
    patient._engine.dispose()
    at_first_commit(patient, idle)
    assert patient.store_responses(owned, 0, 0, [response(0)]).inserted == 1


@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_a_serialization_failure_or_deadlock_is_tried_again_inside_the_call(
    patient: Archive, owned: Hold, admin: psycopg.Connection, code: str
) -> None:
    admin.execute("create sequence tries")
    admin.execute(
        "create function unlucky() returns trigger language plpgsql as $$ begin"
        f" if nextval('tries') <= 2 then raise 'unlucky' using errcode = '{code}'; end if;"
        " return new; end $$"
    )
    admin.execute(
        "create trigger unlucky before insert on archive.attempts"
        " for each statement execute function unlucky()"
    )
    assert patient.add_seeds(owned, seeds(0.0)) == 1
    assert admin.execute("select last_value from tries").fetchone() == (3,)


def test_a_real_deadlock_between_two_writers_loses_neither(
    patient: Archive, owned: Hold, admin: psycopg.Connection
) -> None:
    ids = planned_step(patient, owned, size=2)
    patient.store_responses(owned, 0, 0, [response(0), response(1)])
    admin.execute("begin")
    admin.execute("select 1 from archive.attempts where id = %s for update", (ids[1],))

    def store() -> None:
        patient.store_verdicts(owned, 0, [verdict(ids[0], 1.0), verdict(ids[1], 2.0)])

    writer = threading.Thread(target=store)
    writer.start()
    waiting = OTHERS.format("count(*)") + " and wait_event_type = 'Lock'"
    with psycopg.connect(patient.url, autocommit=True) as other:
        while other.execute(waiting).fetchone() == (0,):
            time.sleep(0.01)
    try:
        admin.execute("select 1 from archive.attempts where id = %s for update", (ids[0],))
    except psycopg.errors.DeadlockDetected:
        pass
    finally:
        admin.execute("rollback")
    writer.join(30)
    assert patient.unverified(owned.run_id, 0) == []


def test_an_archive_without_patience_says_at_once_that_repeating_may_help(
    archive: Archive, hold: Hold, admin: psycopg.Connection
) -> None:
    at_first_commit(
        archive, lambda: admin.execute(OTHERS.format("pg_terminate_backend(pid, 2000)"))
    )
    with pytest.raises(ArchiveInterrupted):
        archive.add_seeds(hold, seeds(0.0))


def test_patience_ends() -> None:
    absent = Archive("postgresql://postgres@/x?host=/nonexistent", patience_s=0.5)
    began = time.monotonic()
    with pytest.raises(ArchiveUnavailable):
        absent.runs()
    assert time.monotonic() - began < 5.0


def test_whoever_can_start_the_server_is_asked_to(archive: Archive) -> None:
    asked: list[bool] = []
    absent = Archive(
        "postgresql://postgres@/x?host=/nonexistent",
        patience_s=0.2,
        revive=lambda: asked.append(True),
    )
    with pytest.raises(ArchiveUnavailable):
        absent.runs()
    assert asked


@pytest.mark.slow
def test_512_verdicts_at_once_use_the_same_few_connections_and_are_stored_once(
    patient: Archive, owned: Hold, admin: psycopg.Connection
) -> None:
    ids = planned_step(patient, owned, size=512)
    patient.store_responses(owned, 0, 0, [response(i) for i in range(512)])
    start, most, stored = threading.Event(), [0], list[int]()

    def store(attempt_id: int) -> None:
        start.wait()
        stored.append(patient.store_verdicts(owned, 0, [verdict(attempt_id, 1.0)]))

    threads = [threading.Thread(target=store, args=(i,)) for i in ids]
    for thread in threads:
        thread.start()
    start.set()
    while any(thread.is_alive() for thread in threads):
        row = admin.execute(OTHERS.format("count(*)")).fetchone()
        assert row is not None
        most.append(row[0])
        time.sleep(0.01)
    assert sum(stored) == 512
    assert patient.unverified(owned.run_id, 0) == []
    assert max(most) <= 6  # four in the pool, one for the lock, one of the fixture's


# What writes without a hold, once: repeated, it might be done twice.
WRITES = {"add_problem", "add_run", "fork", "add_claim", "add_schedule", "change_schedule",
          "remove_schedule", "begin_night", "add_missed", "end_night", "count_resume",
          "assign_run", "rebuild", "confirm", "_read"}  # fmt: skip


def test_a_read_that_loses_its_connection_is_made_again_by_the_same_call(
    patient: Archive, owned: Hold, admin: psycopg.Connection
) -> None:
    planned_step(patient, owned)
    done: list[bool] = []

    def lose(*_: object) -> None:
        if not done:
            done.append(True)
            admin.execute(OTHERS.format("pg_terminate_backend(pid, 2000)"))

    event.listen(patient._engine, "before_cursor_execute", lose)
    assert patient.progress(owned.run_id).stage == "planned"
    assert done


def test_every_read_of_the_archive_is_made_again() -> None:
    once = {
        name
        for kind in Archive.__mro__
        for name, method in vars(kind).items()
        if inspect.isfunction(method)
        and not hasattr(method, "__wrapped__")
        and "self._read()" in inspect.getsource(method)
    }
    assert once <= WRITES, once - WRITES


class Stop(BaseException):
    """A signal's exception that psycopg does not know."""


@pytest.mark.parametrize("after", ["sending", "answered"])
@pytest.mark.parametrize("kind", [Stop, KeyboardInterrupt])
def test_a_signal_ends_a_call_wherever_it_arrives(
    patient: Archive,
    owned: Hold,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[BaseException],
    after: str,
) -> None:
    """Neither taken for a lost connection and outlasted, nor for a failure of the database."""
    planned_step(patient, owned)
    real, left = psycopg.waiting.wait, [0]

    def wait(generator: Any, *arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and after == "sending":
            next(generator, None)
            raise kind
        answer = real(generator, *arguments, **named)
        if left[0] == 0:
            raise kind
        return answer

    monkeypatch.setattr(psycopg.waiting, "wait", wait)
    reached = 0
    for number in range(1, 40):
        left[0] = number
        try:
            patient.store_responses(owned, 0, 0, [response(number % 4)])
        except kind:
            reached += 1
        left[0] = 0
        patient.confirm(owned)  # the next call works
        if reached < number:
            break
    assert 4 < reached < 39


def test_a_signal_whose_unwinding_fails_is_not_taken_for_prefects_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = []

    def flow(_session: object) -> None:
        begun.append(True)
        try:
            raise Stop
        finally:
            raise ConnectionError("no answer")

    monkeypatch.setattr(sitting, "tagged", flow)
    monkeypatch.setattr(prefect_faults, "lost", lambda error: True)
    with pytest.raises(Stop):
        sitting.orchestrated(cast("Session", None))
    assert len(begun) == 1
