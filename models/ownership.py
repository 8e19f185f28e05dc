"""Owning a run: an advisory lock says who may try, the run's epoch says who may write.

The lock lives on a connection of its own and vanishes with its socket, so a dead local owner is
taken over at once. A lock whose lease has expired by the server's clock belongs to an owner that
is gone or frozen: its connection is ended and the run taken over; should it wake up, its epoch is
old and every write of it is refused.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from types import TracebackType

import sqlalchemy
from sqlalchemy import Connection, Engine

from eurekaflow.models import database
from eurekaflow.models.errors import ArchiveUnavailable, FencedOut, RunOwned
from eurekaflow.models.faultpoints import reach

RUN_LOCKS = (
    0x65757265 << 32
)  # plus the run: its owner's advisory lock, apart from other users of advisory locks

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
        lease_expires_at < now() as expired
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
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._connection = self._lock()
        self.epoch = self._take()
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
                self._extend()
            except ArchiveUnavailable:
                self._reconnect()
                self._extend()
            except FencedOut:
                self._drop()  # keep no lock on a run that is not ours
                raise

    def release(self, state: str | None = None) -> None:
        """Give the run back, optionally in a new state. Calling it again does nothing."""
        self._stop.set()
        with self._guard:
            if self._connection.closed:
                return
            values = {"run": self.run_id, "epoch": self.epoch, "state": state}
            reach("release.before_commit")
            try:
                with database.errors():
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

    def _lock(self) -> Connection:
        with database.errors():
            connection = self._engine.connect()
            try:
                locked = _try_lock(connection, self.run_id)
                if database.one(connection, _OWNER, run=self.run_id).expired:
                    locked = self._evict(connection) or locked
                if not locked:
                    raise _owned(connection, self.run_id)
            except BaseException:
                connection.close()
                raise
            return connection

    def _evict(self, connection: Connection) -> bool:
        """End the sessions of an owner whose lease has expired; whether the lock is ours now.

        All of them: one that froze inside a transaction would hold the run's row for ever.
        """
        keys = [RUN_LOCKS + self.run_id, database.WRITING + self.run_id]
        database.rows(connection, _EVICT, keys=keys)
        return _try_lock(connection, self.run_id)

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
        self._connection.invalidate()  # closes the socket, and the lock with it
        self._connection.close()

    def _reconnect(self) -> None:
        self._drop()
        try:
            self._connection = self._lock()
        except RunOwned as error:
            raise FencedOut(error.message, error.fix) from error

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


def _owned(connection: Connection, run_id: int) -> RunOwned:
    row = database.one(connection, _OWNER, run=run_id)
    since = f"{row.lease_since:%Y-%m-%d %H:%M:%S %Z}" if row.lease_since else "a moment ago"
    return RunOwned(
        f"run {run_id} is owned by {row.lease_owner} "
        f"(process {row.lease_pid} on {row.lease_host}) since {since}",
        "wait for it, or end that process; the run can be resumed afterwards",
    )
