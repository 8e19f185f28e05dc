"""Who may write: one owner a run, a fence against old ones, and trouble with the database."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from eurekaflow.models.archive import Archive, CheckpointRow, Hold, RunRow, SeedRow, StoreCount
from eurekaflow.models.errors import (
    FREE_SPACE,
    ArchiveUnavailable,
    EurekaError,
    FencedOut,
    RunOwned,
)
from tests.archives import planned_step, response, seeds, settle, state

pytest_plugins = ("tests.archive_fixtures",)

OWNER = """
import sys, time
from eurekaflow.models.archive import Archive
hold = Archive(sys.argv[1]).hold(int(sys.argv[2]), owner="the other")
print("held", flush=True)
time.sleep(600)
"""

LOCKS = """
    select count(*) from pg_locks where locktype = 'advisory'
        and database = (select oid from pg_database where datname = current_database())"""


def end_locks(archive: Archive) -> None:
    """End every session of this database that has an advisory lock."""
    with archive._read() as connection:
        connection.exec_driver_sql(
            "select pg_terminate_backend(pid, 2000) from pg_locks where locktype = 'advisory'"
            " and database = (select oid from pg_database where datname = current_database())"
        )


def take(archive: Archive, run: RunRow, start: threading.Barrier) -> Hold | Exception:
    start.wait()
    try:
        return archive.hold(run.id, owner="a resumer")
    except EurekaError as error:
        return error


def both(work: Callable[[Archive], Any], archives: Sequence[Archive]) -> list[Any]:
    """The same work in two threads at the same moment."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, archives))


@pytest.mark.services
class TestOwning:
    """One owner a run; the newest epoch writes."""

    def test_a_second_owner_is_refused_with_the_first_ones_name(
        self, archive: Archive, hold: Hold
    ) -> None:
        with pytest.raises(RunOwned, match=r"the test \(process \d+ on .+\) since \d{4}-"):
            archive.hold(hold.run_id, owner="another")

    def test_a_released_run_can_be_owned_again(self, archive: Archive, hold: Hold) -> None:
        hold.release("paused")
        assert archive.run(hold.run_id).state == "paused"
        with archive.hold(hold.run_id, owner="another") as second:
            assert second.epoch == hold.epoch + 1

    def test_an_old_owner_cannot_write(self, archive: Archive, hold: Hold) -> None:
        planned_step(archive, hold, size=1)
        before = state(archive)
        hold.release()
        with archive.hold(hold.run_id, owner="another"):
            for write in self._writes(archive, hold):
                with pytest.raises(FencedOut, match="another"):
                    write()
        assert state(archive) == before

    def _writes(self, archive: Archive, hold: Hold) -> list[Any]:
        row = CheckpointRow(step=0, version=1, path="c", sha256="5a")
        update: dict[str, Any] = {
            "group_stats": [],
            "metrics": {},
            "seconds": 1.0,
            "staging": None,
        }
        return [
            lambda: archive.add_seeds(hold, seeds(0.0, 1.0)),
            lambda: archive.plan(hold, 1, []),
            lambda: archive.store_responses(hold, 0, 0, [response(0)]),
            lambda: archive.store_verdicts(hold, 0, []),
            lambda: archive.abandon(hold, 0, [1], "gone"),
            lambda: archive.stage_done(hold, 0, "sample", 1.0),
            lambda: settle(archive, hold, 0),
            lambda: archive.record_update(hold, 0, **update),
            lambda: archive.commit_step(hold, 0, row),
            lambda: archive.mark_pruned(hold, {0: "old"}),
            lambda: archive.add_ledger(hold, 0, "plan"),
            lambda: archive.finish(hold, "finished"),
        ]

    def test_a_lost_hold_neither_renews_nor_releases_the_new_one(
        self, archive: Archive, hold: Hold
    ) -> None:
        with archive._read() as connection:
            connection.exec_driver_sql("update archive.runs set epoch = epoch + 1")
        with pytest.raises(FencedOut):
            hold.renew()
        hold.release("failed")
        assert archive.run(hold.run_id).state == "running"

    def test_a_killed_owner_is_taken_over_at_once(self, archive: Archive, run: RunRow) -> None:
        command = [sys.executable, "-c", OWNER, archive.url, str(run.id)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "held\n"
            with pytest.raises(RunOwned, match="the other"):
                archive.hold(run.id, owner="the test")
            owner.kill()
            owner.wait()
            archive.hold(run.id, owner="the test").release()

    def test_a_living_owner_without_its_lock_keeps_the_run_until_its_lease_ends(
        self, archive: Archive, run: RunRow
    ) -> None:
        command = [sys.executable, "-c", OWNER, archive.url, str(run.id)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "held\n"
            end_locks(archive)  # as a restart of the server does
            with pytest.raises(RunOwned, match=r"the other .*"):
                archive.hold(run.id, owner="the test")
            owner.kill()
            owner.wait()
            archive.hold(run.id, owner="the test").release()  # a dead one at once

    def test_an_owner_on_another_host_is_waited_for_until_its_lease_ends(
        self, archive: Archive, run: RunRow
    ) -> None:
        lease = """update archive.runs set lease_owner = 'the other', lease_host = 'elsewhere',
            lease_pid = 1, lease_since = now(), lease_expires_at = now() + interval '{}'"""
        with archive._read() as connection:
            connection.exec_driver_sql(lease.format("30 seconds"))
        with pytest.raises(RunOwned, match="on elsewhere") as refusal:
            archive.hold(run.id, owner="the test")
        assert "if it is gone, in 3" in refusal.value.fix
        with archive._read() as connection:
            connection.exec_driver_sql(lease.format("-1 seconds"))
        archive.hold(run.id, owner="the test").release()

    def test_of_two_who_find_an_expired_lease_one_takes_the_run_and_keeps_it(
        self, archive: Archive, run: RunRow
    ) -> None:
        other, start = Archive(archive.url), threading.Barrier(2)
        for _ in range(25):
            frozen = archive.hold(run.id, owner="the frozen one")
            frozen._stop.set()
            with archive._read() as connection:
                connection.exec_driver_sql(
                    "update archive.runs set lease_expires_at = now() - interval '1 second'"
                )
            results = both(lambda a: take(a, run, start), (archive, other))
            held = [r for r in results if isinstance(r, Hold)]
            refused = [type(r) for r in results if not isinstance(r, Hold)]
            assert (len(held), refused) == (1, [RunOwned]), results
            held[0].renew()  # nobody has robbed it
            held[0].release()
            frozen.release()
        other.close()

    def test_an_expired_lease_is_taken_over_from_a_frozen_owner(
        self, archive: Archive, hold: Hold
    ) -> None:
        with archive._read() as connection:
            connection.exec_driver_sql(
                "update archive.runs set lease_expires_at = now() - interval '1 second'"
            )
        with archive.hold(hold.run_id, owner="another"), pytest.raises(FencedOut):
            archive.add_seeds(hold, seeds(0.0))

    def test_the_lease_is_renewed_in_the_background(self, archive: Archive, run: RunRow) -> None:
        with archive.hold(run.id, owner="the test", lease_s=0.4):
            time.sleep(1.0)
            assert archive.run(run.id).owner == "the test"

    def test_a_run_is_released_through_a_broken_connection(
        self, archive: Archive, hold: Hold
    ) -> None:
        with archive._read() as connection:
            connection.exec_driver_sql(
                "select pg_terminate_backend(pid, 2000) from pg_locks where locktype = 'advisory'"
            )
        hold.release("paused")
        assert archive.run(hold.run_id).state == "paused"

    def test_a_hold_survives_a_broken_connection(self, archive: Archive, hold: Hold) -> None:
        with archive._read() as connection:
            connection.exec_driver_sql(
                "select pg_terminate_backend(pid, 2000) from pg_locks where locktype = 'advisory'"
            )
        hold.renew()
        with pytest.raises(RunOwned):
            archive.hold(hold.run_id, owner="another")

    def test_a_hold_that_could_not_come_back_at_first_comes_back_later(
        self, archive: Archive, hold: Hold
    ) -> None:
        hold._drop()  # what a try leaves that found no server
        hold.renew()
        with pytest.raises(RunOwned):
            archive.hold(hold.run_id, owner="another")

    def test_an_owner_that_lost_its_run_and_its_connection_keeps_no_lock(
        self, archive: Archive, hold: Hold
    ) -> None:
        end_locks(archive)
        with archive._read() as connection:
            connection.exec_driver_sql("update archive.runs set epoch = epoch + 1")
        with pytest.raises(FencedOut):
            hold.renew()
        deadline = time.monotonic() + 5.0  # the server sees a moment later that it was closed
        while archive.query(LOCKS, as_reader=False)[1] != [(0,)]:
            assert time.monotonic() < deadline

    def test_a_run_whose_connection_is_gone_is_still_given_back(
        self, archive: Archive, hold: Hold
    ) -> None:
        hold._drop()
        hold.release("paused")
        assert archive.run(hold.run_id).state == "paused"


@pytest.mark.services
class TestFailing:
    """Trouble with the database is told apart from everything else."""

    def test_an_absent_server_is_unavailable(self) -> None:
        with pytest.raises(ArchiveUnavailable, match="did not answer"):
            Archive("postgresql://postgres@/x?host=/nonexistent").runs()

    def test_a_vanished_database_is_unavailable_and_names_the_reason(
        self, archive: Archive, hold: Hold
    ) -> None:
        name = archive.url.split("/")[3].split("?")[0]
        with psycopg.connect(archive.url.replace(name, "postgres"), autocommit=True) as other:
            other.execute(f"alter database {name} allow_connections false")
            other.execute(
                "select pg_terminate_backend(pid, 2000) from pg_stat_activity where datname = %s",
                (name,),
            )
            try:
                with pytest.raises(ArchiveUnavailable, match="not currently accepting"):
                    archive.add_seeds(hold, seeds(0.0))
            finally:
                other.execute(f"alter database {name} allow_connections true")
        assert archive.add_seeds(hold, seeds(0.0)) == 1

    def test_a_full_disk_is_unavailable_and_leaves_nothing_half_written(
        self, archive: Archive, hold: Hold
    ) -> None:
        with psycopg.connect(archive.url, autocommit=True) as other:
            other.execute(
                "create function full_disk() returns trigger language plpgsql as $$ begin"
                " raise 'could not extend file: No space left on device' using errcode = '53100';"
                " end $$"
            )
            other.execute(
                "create trigger full_disk before insert on archive.attempts"
                " for each row execute function full_disk()"
            )
        with pytest.raises(ArchiveUnavailable, match=r"disk is full: .*No space left") as found:
            archive.add_seeds(hold, [SeedRow(slot=0, value=0.0, program="p")])
        assert (found.value.exit_code, found.value.fix) == (3, FREE_SPACE)
        assert archive.query("select count(*) from archive.bodies", as_reader=False)[1] == [(0,)]

    def test_threads_may_share_an_archive(self, archive: Archive, hold: Hold) -> None:
        planned_step(archive, hold, size=32)
        counts: list[StoreCount] = []

        def store(slot: int) -> None:
            counts.append(archive.store_responses(hold, 0, 0, [response(slot)]))

        threads = [threading.Thread(target=store, args=(slot,)) for slot in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(count.inserted for count in counts) == 32
        assert archive.missing(hold.run_id, 0) == {}
