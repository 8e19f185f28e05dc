"""One Postgres server on one data folder: create it, start it, ask it, end it.

Called by `postgres.py` under its start lock, except for `ask` and `postmaster`, which only look.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from eurekaflow.models.daemons import (
    Account,
    as_account,
    command_line,
    end,
    is_alive,
    plain_environment,
    spawn,
    tail,
    working_folder,
)
from eurekaflow.models.errors import ArchiveUnavailable, EurekaError
from eurekaflow.models.file_lock import FileLock, is_locked, try_exclusive
from eurekaflow.models.postgres_binaries import Binaries
from eurekaflow.models.postgres_files import (
    Place,
    connection_url,
    file_problem,
    socket_folder,
    write_settings,
)
from eurekaflow.models.postgres_network import clear_sockets, link_socket

Progress = Callable[[str], None]
START_ATTEMPTS = 3

_REFUSALS = ("starting up", "not yet accepting", "recovery state", "shutting down")
# What is no reason of a server's own for its end, in its log.
_NOISE = (*_REFUSALS, "unexpected postmaster exit", "administrator command")
_DISK_FULL = ("No space left on device", "Disk quota exceeded", "Check free disk space")


def postmaster(place: Place) -> int | None:
    """The server's process id if the recorded one is really this server's."""
    try:
        pid = int((place.data / "postmaster.pid").read_text().split("\n")[0])
    except (OSError, ValueError):
        return None
    if not is_alive(pid):
        return None
    folder = working_folder(pid)
    if folder is None:  # another user's process without ptrace rights, or no /proc
        return pid if str(place.data) in command_line(pid) else None
    return pid if folder == place.data.resolve() else None


@dataclass(frozen=True)
class Answer:
    """What one connection attempt said."""

    databases: tuple[str, ...] = ()
    version: str = ""
    message: str = ""
    crowded: bool = False  # alive, but without a free connection

    @property
    def answers(self) -> bool:
        return bool(self.version)

    @property
    def recovering(self) -> bool:
        return any(phrase in self.message for phrase in _REFUSALS)


_QUESTION = (
    "select current_setting('server_version'), array_agg(datname::text order by datname)"
    " from pg_database"
)


_CLIENTS = (
    "select count(*) from pg_stat_activity where backend_type = 'client backend'"
    " and pid <> pg_backend_pid() and datname <> %s"
)


def ask(place: Place) -> Answer:
    """Ask the server itself; any refusal to connect is an answer too."""
    try:
        target = connection_url(socket_folder(place), "postgres")
        with psycopg.connect(target, connect_timeout=5, autocommit=True) as connection:
            row = connection.execute(_QUESTION).fetchone()
    except psycopg.Error as error:
        if "too many clients" in str(error):
            return Answer(version="?", crowded=True)
        return Answer(message=str(error))
    assert row is not None  # an aggregate without GROUP BY always has one row
    return Answer(tuple(row[1]), str(row[0]))


def client_count(place: Place, *, without: str) -> int:
    """Connections of others, those to the database `without` left out; 0 when it is down."""
    try:
        target = connection_url(socket_folder(place), "postgres")
        with psycopg.connect(target, connect_timeout=5, autocommit=True) as connection:
            row = connection.execute(_CLIENTS, [without]).fetchone()
    except psycopg.Error:
        return 0
    return int(row[0]) if row else 0


def create(place: Place, binaries: Binaries, account: Account | None) -> None:
    """initdb in a folder of another name, so that a killed one is never taken for finished."""
    for remains in place.data.parent.glob("data.new-*"):
        shutil.rmtree(remains, ignore_errors=True)
    # A new name each time: the initdb of a killed starter may still be writing to the old one.
    draft = Path(tempfile.mkdtemp(prefix="data.new-", dir=place.data.parent))
    if account is not None:
        os.chown(draft, account.uid, account.gid)
    command = [binaries.folder / "initdb", "-D", draft, "-U", "postgres", "--encoding=UTF8"]
    locale = ["--locale=C"]
    if binaries.major >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    rest = ["--auth-local=trust", "--auth-host=reject", "--data-checksums", "--no-instructions"]
    done = subprocess.run(
        [*map(str, command), *locale, *rest],
        cwd=draft,
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=False,
        **as_account(account),
    )
    if done.returncode != 0:
        shutil.rmtree(draft, ignore_errors=True)
        raise _server_problem("initdb failed", (done.stdout + done.stderr)[-2000:], place)
    draft.rename(place.data)


def launch(
    place: Place,
    binaries: Binaries,
    account: Account | None,
    *,
    timeout_s: float,
    on_wait: Progress | None,
) -> None:
    """Start the postmaster unless one lives, and wait until it answers.

    A server that was killed or stopped from outside meanwhile is started again; one that gave
    a reason for its end is not. Raises ArchiveUnavailable, or PrerequisiteMissing (disk full).
    """
    words = ""
    for _ in range(START_ATTEMPTS):
        log_start = place.log.stat().st_size if place.log.exists() else 0
        lock = _run_lock(place, timeout_s)
        if lock is not None:
            with lock:
                _spawn_postmaster(place, binaries, account, lock)
        if _await_answer(place, log_start=log_start, timeout_s=timeout_s, on_wait=on_wait):
            return
        words = _own_words(place, log_start)
        if "FATAL" in words or "PANIC" in words:
            break
    raise _server_problem("the archive's server ended while starting", words, place)


def _run_lock(place: Place, timeout_s: float) -> FileLock | None:
    """The lock that a new server inherits; None when a server already lives."""
    deadline = time.monotonic() + timeout_s
    while postmaster(place) is None:
        lock = try_exclusive(place.run_lock)
        if lock is not None:
            return lock
        # Backends of a killed postmaster: two servers on one folder would destroy it.
        if time.monotonic() > deadline:
            owners = "processes of an ended server still work in the data folder"
            raise _server_problem(owners, _own_words(place, 0), place)
        time.sleep(0.05)
    return None


def _spawn_postmaster(
    place: Place, binaries: Binaries, account: Account | None, lock: FileLock
) -> None:
    # Safe only under the run lock: these files are Postgres' own guard against two servers.
    (place.data / "postmaster.pid").unlink(missing_ok=True)
    clear_sockets(place.data)
    settings = write_settings(place)
    link_socket(place.data, settings)
    arguments = ["-D", str(place.data), "-c", f"config_file={settings}"]
    spawn(
        [str(binaries.folder / "postgres"), *arguments],
        log=place.log,
        cwd=place.data,
        lock_descriptor=lock.descriptor,
        account=account,
    )


def _await_answer(
    place: Place, *, log_start: int, timeout_s: float, on_wait: Progress | None
) -> bool:
    """Wait for an answer, however long recovery takes; False when the server ended instead.

    Raises ArchiveUnavailable when a living server is silent for `timeout_s` seconds.
    """
    begin = last_word = last_report = time.monotonic()
    pause_s = 0.02
    while not (answer := ask(place)).answers:
        now = time.monotonic()
        if answer.recovering:
            last_word = now
        if not is_locked(place.run_lock) and postmaster(place) is None:
            return False
        if now - last_word > timeout_s:
            text = f"the archive's server did not answer for {timeout_s:.0f} s: {answer.message}"
            raise _server_problem(text, _own_words(place, log_start), place)
        if on_wait and now - last_report > 2:
            last_report = now
            on_wait(f"waiting for the archive's server ({now - begin:.0f} s)")
        time.sleep(pause_s)
        pause_s = min(0.2, 1.3 * pause_s)
    return True


def _own_words(place: Place, log_start: int) -> str:
    """The end of the log without refused questions and clients cut off."""
    lines = tail(place.log, start=log_start, limit=8000).splitlines()
    told = [line for line in lines if not any(noise in line for noise in _NOISE)]
    return "\n".join(told[-12:])


def end_server(place: Place) -> bool:
    """Stop the postmaster (fast, then at once); whether there was one.

    Raises ArchiveUnavailable when it does not end.
    """
    pid = postmaster(place)
    if pid is None:
        return False

    def gone() -> bool:
        return not is_alive(pid) and not is_locked(place.run_lock)

    if not end(pid, [(signal.SIGINT, 60.0), (signal.SIGQUIT, 15.0)], gone):
        raise ArchiveUnavailable(
            f"the archive's server (process {pid}) did not stop", f"see {place.log}"
        )
    return True


def _server_problem(what: str, log: str, place: Place) -> EurekaError:
    if any(phrase in log for phrase in _DISK_FULL):
        return file_problem(OSError(errno.ENOSPC, "No space left on device"), place.data)
    shown = f"\n{log}" if log else ""
    return ArchiveUnavailable(f"{what}{shown}", f"see {place.log}; eureka doctor")
