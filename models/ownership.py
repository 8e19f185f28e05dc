"""Owning a run: an advisory lock says who may try, the run's epoch says who may write.

The lock lives on a connection of its own and vanishes with its socket, so a dead local owner is
taken over at once. A lock whose lease has expired by the server's clock belongs to an owner that
is gone or frozen: its connection is ended and the run taken over; should it wake up, its epoch is
old and every write of it is refused. A free lock with a lease that still runs may be a living
owner's whose connection broke (the server restarted): it is left to come back, on this host while
its process lives, from another host until the lease ends. Who takes a run looks and takes under a
second lock, so that of several at once one sees the old owner and the others see the new one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, Row

from eurekaflow.models import database
from eurekaflow.models.daemons import is_alive
from eurekaflow.models.errors import ArchiveUnavailable, FencedOut, RunOwned
from eurekaflow.models.faultpoints import reach

# Plus the run: its owner's advisory lock, apart from other users of advisory locks.
RUN_LOCKS = 0x65757265 << 32
_TAKING = 0x65757267 << 32  # held while a run is looked at and taken
NOTICED_S = 2.0  # for the server to see that a dead owner's connection is closed
TAKING_S = 10.0  # after which whoever is taking a run must be frozen: it takes under 3 s

_TAKE = """
    update archive.runs set epoch = epoch + 1, state = 'running', message = '',
        ended_by = null,
        lease_owner = :owner, lease_host = :host, lease_pid = :pid, lease_since = now(),
        lease_expires_at = now() + make_interval(secs => :lease),
        started_at = coalesce(started_at, now()), finished_at = null
    where id = :run returning epoch"""
_RENEW = """
    update archive.runs set lease_expires_at = now() + make_interval(secs => :lease)
    where id = :run and epoch = :epoch"""
_RELEASE = """
    update archive.runs set state = coalesce(:state, state), lease_owner = null, lease_pid = null,
        lease_host = null, lease_since = null, lease_expires_at = null
    where id = :run and epoch = :epoch"""
_UNLOCK = "select pg_advisory_unlock(:key)"
_OWNER = """
    select lease_owner, lease_host, lease_pid, lease_since,
        lease_expires_at < now() as expired,
        extract(epoch from lease_expires_at - now()) as seconds
    from archive.runs where id = :run"""
_EVICT = """
    select pg_terminate_backend(pid, 2000) from pg_locks
    where locktype = 'advisory' and granted and objsubid = 1
      and database = (select oid from pg_database where datname = current_database())
      and (classid::bigint << 32) + objid::bigint = any(:keys) and pid <> pg_backend_pid()"""


class Hold:
    """A run owned by this process until `release`; renews its lease in the background."""

    def __init__(self, engine: Engine, run_id: int, *, owner: str, lease_s: float) -> None:
        self._engine = engine
        self.run_id = run_id
        self.owner = owner
        self.lease_s = lease_s
        self.lost: str = ""  # why the run was lost, once it is
        self._released = False
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._connection = self._open()
        try:
            with database.errors(), _taking(self._connection, run_id):
                self._win()
                self.epoch = self._take()
        except BaseException:
            self._drop()
            raise
        name = f"lease-of-run-{run_id}"
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ArchiveUnavailable):  # then the lock is gone, the lease expires
            self.release()

    def renew(self) -> None:
        """Extend the lease; reconnects after a server restart. Raises FencedOut when lost."""
        with self._guard:
            try:
                self._renewed()
            except FencedOut:
                self._drop()  # keep no lock on a run that is not ours
                raise

    def release(self, state: str | None = None) -> None:
        """Give the run back, optionally in a new state. Calling it again does nothing."""
        self._stop.set()
        with self._guard:
            if self._released:
                return
            self._released = True
            values = {"run": self.run_id, "epoch": self.epoch, "state": state}
            reach("release.before_commit")
            try:
                with database.errors():
                    self._usable()
                    database.run(self._connection, _RELEASE, **values)
                    # Here and not by closing, which the server notices a moment later.
                    database.one(self._connection, _UNLOCK, key=RUN_LOCKS + self.run_id)
            except ArchiveUnavailable:  # a broken connection: the epoch still guards the row
                with database.errors(), self._engine.connect() as fresh:
                    database.run(fresh, _RELEASE, **values)
            finally:
                self._drop()
            reach("release.after_commit")
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def _open(self) -> Connection:
        with database.errors():
            return self._engine.connect()

    def _win(self) -> None:
        """Have the run's lock on our connection. Raises RunOwned while a living process owns it.

        An expired lease is an owner's that is gone or frozen: its sessions are ended. All of
        them: one that froze inside a transaction would hold the run's row for ever.
        """
        locked = _try_lock(self._connection, self.run_id)
        row = database.one(self._connection, _OWNER, run=self.run_id)
        if row.expired:
            locked = self._evict() or locked
        elif not locked and _dead(row):
            locked = self._wait_for_the_server()
        if not locked or not left(row):
            raise _owned(self.run_id, row)

    def _wait_for_the_server(self) -> bool:
        """Whether the lock comes free: a server at work sees late that its client is gone."""
        deadline = time.monotonic() + NOTICED_S
        while not (locked := _try_lock(self._connection, self.run_id)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        return locked

    def _evict(self) -> bool:
        """End other sessions that have or write the run; whether the lock is ours now."""
        keys = [RUN_LOCKS + self.run_id, database.WRITING + self.run_id]
        database.rows(self._connection, _EVICT, keys=keys)
        return _try_lock(self._connection, self.run_id)

    def _take(self) -> int:
        values = {"owner": self.owner, "host": socket.gethostname(), "pid": os.getpid()}
        reach("hold.before_commit")
        with database.errors():
            row = database.one(
                self._connection, _TAKE, run=self.run_id, lease=self.lease_s, **values
            )
        reach("hold.after_commit")
        return int(row.epoch)

    def _extend(self) -> None:
        with database.errors():
            values = {"run": self.run_id, "epoch": self.epoch, "lease": self.lease_s}
            if database.run(self._connection, _RENEW, **values) == 0:
                raise FencedOut(
                    f"run {self.run_id} was taken over by another process",
                    "let it finish, or resume the run after it ended",
                )

    def _drop(self) -> None:
        if not self._connection.closed:
            self._connection.invalidate()  # closes the socket, and the lock with it
            self._connection.close()

    def _renewed(self) -> None:
        try:
            self._usable()
            self._extend()
        except ArchiveUnavailable:
            self._reconnect()
            self._extend()

    def _usable(self) -> None:
        if self._connection.closed:  # by an earlier try to come back
            raise ArchiveUnavailable("the connection of the run's lock is closed")

    def _reconnect(self) -> None:
        """The lock on a new connection, while the run is still ours. Raises FencedOut."""
        self._drop()
        self._connection = self._open()
        try:
            with database.errors(), _taking(self._connection, self.run_id):
                self._extend()
                if not _try_lock(self._connection, self.run_id) and not self._evict():
                    raise ArchiveUnavailable("our old session still has the run's lock")
        except BaseException:
            self._drop()
            raise

    def _keep(self) -> None:
        while not self._stop.wait(self.lease_s / 4):
            try:
                self.renew()
            except FencedOut as error:
                self.lost = error.message
                return
            except (ArchiveUnavailable, sqlalchemy.exc.SQLAlchemyError) as error:
                self.lost = str(error)  # the next renewal may still succeed
            else:
                self.lost = ""


def _try_lock(connection: Connection, run_id: int) -> bool:
    sql = "select pg_try_advisory_lock(:key) as locked"
    return bool(database.one(connection, sql, key=RUN_LOCKS + run_id).locked)


@contextlib.contextmanager
def _taking(connection: Connection, run_id: int) -> Iterator[None]:
    """Alone with the question whose run it is. One that froze in here is ended after a while."""
    key, deadline = _TAKING + run_id, time.monotonic() + TAKING_S
    while not database.one(connection, "select pg_try_advisory_lock(:key) as ok", key=key).ok:
        if time.monotonic() > deadline:
            database.rows(connection, _EVICT, keys=[key])
        time.sleep(0.01)
    yield
    database.one(connection, _UNLOCK, key=key)


def left(row: Row[Any]) -> bool:
    """Whether nobody will come back for a run whose lock is free, by the lease in its row.

    A process that asks for a run it had has let go of it. A dead owner's number may be another
    process's by now: then the end of the lease decides.
    """
    if row.lease_owner is None or row.expired:
        return True
    mine = (row.lease_host, row.lease_pid) == (socket.gethostname(), os.getpid())
    return mine or _dead(row)


def _dead(row: Row[Any]) -> bool:
    """Whether the owner was a process of this host that is gone."""
    here = row.lease_host == socket.gethostname()
    return here and row.lease_pid is not None and not is_alive(row.lease_pid)


def _owned(run_id: int, row: Row[Any]) -> RunOwned:
    since = f"{row.lease_since:%Y-%m-%d %H:%M:%S %Z}" if row.lease_since else "a moment ago"
    until = ""
    if row.seconds is not None and row.seconds > 0:
        until = f"; if it is gone, in {row.seconds + 1:.0f} s at the latest"
    return RunOwned(
        f"run {run_id} is owned by {row.lease_owner} "
        f"(process {row.lease_pid} on {row.lease_host}) since {since}",
        f"wait for it, or end that process; the run can be resumed afterwards{until}",
    )
