"""The embedded Postgres server: started on first use, shared by processes, stopped when idle.

Truth about the server is asked, never remembered: it works if `select 1` answers, it lives if
somebody still has `run.lock` (the postmaster and each backend inherit that open file), and a
process id counts only if that process works in the data folder and is no zombie.
Only the caller can reach it: no TCP, a socket inside a 0700 folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql

from eurekaflow.models.daemons import service_account
from eurekaflow.models.errors import ArchiveUnavailable, EurekaError, UsageError
from eurekaflow.models.file_lock import FileLock, is_locked, lock_owners, shared, try_exclusive
from eurekaflow.models.postgres_binaries import find_binaries, reachable_binaries
from eurekaflow.models.postgres_files import (
    Place,
    connection_url,
    control_folder,
    data_account,
    file_problem,
    find_place,
    make_place,
    socket_folder,
)
from eurekaflow.models.postgres_server import (
    Answer,
    Progress,
    ask,
    client_count,
    create,
    end_server,
    launch,
    postmaster,
)

DATABASES = ("eureka", "prefect")
START_LOCK = "start.lock"  # who may start or stop the server
USE_LOCK = "use.lock"  # shared by all who need it; its time is when it was last needed
State = Literal["absent", "stopped", "starting", "running"]


@dataclass(frozen=True)
class Cluster:
    """A server that answered: its data folder and how to connect to the archive."""

    data: Path
    url: str
    sockets: Path  # the folder to give as `host`

    def url_of(self, database: str, *, driver: str = "") -> str:
        """The URL of another database, for another driver if named (`asyncpg`)."""
        return connection_url(self.sockets, database, driver=driver)


@dataclass(frozen=True)
class ServerStatus:
    """What is known of the server without starting it."""

    state: State
    data: Path | None
    pid: int | None
    version: str  # of the running server, else empty
    users: tuple[int, ...]  # processes that hold it in use, as far as the kernel tells
    in_use: bool


def ensure(
    home: Path,
    *,
    binaries: Path | None = None,
    timeout_s: float = 120.0,
    on_wait: Progress | None = None,
) -> Cluster:
    """Attach to the server of `home`, starting or creating it first where needed.

    `timeout_s` bounds silence only: crash recovery is waited for as long as the server lives.
    Raises PrerequisiteMissing (no programs, no permission, another major version, disk full)
    and ArchiveUnavailable (the server ends or stays silent; its log's tail is in the message).
    """
    folder = control_folder(home)
    deadline = time.monotonic() + timeout_s
    while True:
        place = find_place(home)
        if place is not None and (answer := ask(place)).answers:
            return _with_databases(place, answer)
        starter = _lock_file(folder / START_LOCK)
        if starter is not None:
            with starter:
                place = _start(home, binaries, timeout_s, on_wait)
                return _with_databases(place, ask(place))
        if place is not None and is_locked(place.run_lock):
            deadline = time.monotonic() + timeout_s  # another process is waiting for it as well
        if time.monotonic() > deadline:
            owners = lock_owners(folder / START_LOCK)
            raise ArchiveUnavailable(
                f"another process {owners or ''} has been starting the archive's server for "
                f"{timeout_s:.0f} s",
                f"end that process, or see {folder / 'server.log'}",
            )
        time.sleep(0.05)


def hold(home: Path) -> FileLock:
    """Note that this process uses the server, until closed: it is not stopped meanwhile."""
    path = control_folder(home) / USE_LOCK
    try:
        lock = shared(path)
        lock.touch()
    except OSError as error:
        raise file_problem(error, path) from error
    return lock


@contextmanager
def running(home: Path, *, on_wait: Progress | None = None) -> Iterator[Cluster]:
    """A server that runs and is held for the length of a `with` block."""
    with hold(home):
        yield ensure(home, on_wait=on_wait)


def in_use(home: Path) -> bool:
    """Whether any process holds the server."""
    return is_locked(home / "postgres" / USE_LOCK)


def url(home: Path, database: str = "eureka") -> str:
    """The URL of a database of `home`. Raises ArchiveUnavailable when there is no server yet."""
    place = find_place(home)
    if place is None:
        raise ArchiveUnavailable(f"there is no archive under {home}", "eureka db start")
    return connection_url(socket_folder(place), database)


def status(home: Path) -> ServerStatus:
    """What the server of `home` is doing; starts and changes nothing."""
    place = find_place(home)
    if place is None or place.major is None:
        return ServerStatus("absent", None, None, "", (), False)
    answer = ask(place)
    pid = postmaster(place)
    alive = pid is not None or is_locked(place.run_lock)
    state: State = "running" if answer.answers else "starting" if alive else "stopped"
    use = place.folder / USE_LOCK
    return ServerStatus(state, place.data, pid, answer.version, lock_owners(use), is_locked(use))


def stop(home: Path, *, force: bool = False, before: Callable[[], object] | None = None) -> bool:
    """Stop the server; whether one was running. Clients are disconnected, nothing is lost.

    `before` is called once nobody holds the server: it stops what depends on it.
    Raises UsageError while a process holds the server or is starting it (unless `force`),
    ArchiveUnavailable when it does not end.
    """
    folder = home / "postgres"
    with ExitStack() as locks:
        for name, verb in ((USE_LOCK, "in use"), (START_LOCK, "being started")):
            if not folder.exists():
                continue
            lock = _lock_file(folder / name, wait_s=0.3)
            if lock is not None:
                locks.enter_context(lock)
            elif not force:
                owners = ", ".join(map(str, lock_owners(folder / name)))
                raise UsageError(
                    f"the archive's server is {verb} by process {owners or '(not visible here)'}",
                    "end that process first, or eureka db stop --force",
                )
        if before is not None:
            before()
        place = find_place(home)
        return place is not None and end_server(place)


def idle_seconds(home: Path) -> float:
    """Seconds since somebody last needed the server, 0 while one holds it or is connected.

    A connection counts whoever made it (psql, a notebook), except those to Prefect's database.
    """
    path = home / "postgres" / USE_LOCK
    place = find_place(home)
    if is_locked(path) or (place is not None and client_count(place, without="prefect")):
        os.utime(path)
        return 0.0
    return max(0.0, time.time() - path.stat().st_mtime)


def _with_databases(place: Place, answer: Answer) -> Cluster:
    """Create what is missing (Prefect's database may have been dropped) and describe it."""
    sockets = socket_folder(place)
    missing = [] if answer.crowded else [n for n in DATABASES if n not in answer.databases]
    if missing:
        with psycopg.connect(connection_url(sockets, "postgres"), autocommit=True) as connection:
            for name in missing:
                try:
                    connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
                except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    continue  # another process attached at the same moment
    return Cluster(place.data, connection_url(sockets, "eureka"), sockets)


def _start(home: Path, override: Path | None, timeout_s: float, on_wait: Progress | None) -> Place:
    """Under the start lock: create the data folder, start the server, wait for its answer."""
    place = find_place(home)
    if place is not None and ask(place).answers:
        return place
    account = service_account() if place is None else data_account(place)
    found = find_binaries(override, major=place.major if place is not None else None)
    if place is None:
        place = make_place(home, account)
    try:
        binaries = reachable_binaries(found, place.data.parent, account)
        if place.major is None:
            if on_wait:
                on_wait(f"creating the archive in {place.data}")
            create(place, binaries, account)
        launch(place, binaries, account, timeout_s=timeout_s, on_wait=on_wait)
    except OSError as error:
        if isinstance(error, EurekaError):
            raise
        raise file_problem(error, Path(error.filename or place.data)) from error
    return place


def _lock_file(path: Path, *, wait_s: float = 0.0) -> FileLock | None:
    try:
        return try_exclusive(path, wait_s=wait_s)
    except OSError as error:
        raise file_problem(error, path) from error
