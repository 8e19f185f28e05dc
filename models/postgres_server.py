"""One Postgres server on one data folder: create it, start it, ask it, end it.

Called by `postgres.py` under its start lock, except for `ask` and `postmaster`, which only look.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

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
from eurekaflow.models.file_lock import is_locked, lock_owners, try_exclusive
from eurekaflow.models.postgres_binaries import Binaries
from eurekaflow.models.postgres_files import (
    Place,
    connection_url,
    file_problem,
    socket_folder,
    write_settings,
)

Progress = Callable[[str], None]


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
        phrases = ("starting up", "not yet accepting", "recovery", "shutting down")
        return any(phrase in self.message for phrase in phrases)


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
    draft = place.data.with_name("data.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
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
    """Start the postmaster unless one lives, and wait until it answers."""
    start = place.log.stat().st_size if place.log.exists() else 0
    deadline = time.monotonic() + timeout_s
    while (lock := try_exclusive(place.run_lock)) is None and postmaster(place) is None:
        # Backends of a killed postmaster: two servers on one folder would destroy it.
        if time.monotonic() > deadline:
            raise _server_problem(
                f"processes {lock_owners(place.run_lock)} of an ended server still live", "", place
            )
        time.sleep(0.05)
    if lock is not None:
        with lock:
            if postmaster(place) is None:
                _remove_remains(place)
                settings = write_settings(place)
                arguments = ["-D", str(place.data), "-c", f"config_file={settings}"]
                spawn(
                    [str(binaries.folder / "postgres"), *arguments],
                    log=place.log,
                    cwd=place.data,
                    lock_descriptor=lock.descriptor,
                    account=account,
                )
    _await_answer(place, log_start=start, timeout_s=timeout_s, on_wait=on_wait)


def _remove_remains(place: Place) -> None:
    """Remove the files of a server that is gone; only ever called with the run lock held."""
    for name in ("postmaster.pid", ".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
        (place.data / name).unlink(missing_ok=True)


def _await_answer(
    place: Place, *, log_start: int, timeout_s: float, on_wait: Progress | None
) -> None:
    """Wait for `select 1`: as long as it takes in recovery, `timeout_s` when it is silent."""
    begin = last_word = last_report = time.monotonic()
    while not (answer := ask(place)).answers:
        now = time.monotonic()
        if answer.recovering:
            last_word = now
        if not is_locked(place.run_lock) and postmaster(place) is None:
            log = tail(place.log, start=log_start)
            raise _server_problem("the archive's server ended while starting", log, place)
        if now - last_word > timeout_s:
            log = tail(place.log, start=log_start)
            text = f"the archive's server did not answer for {timeout_s:.0f} s: {answer.message}"
            raise _server_problem(text, log, place)
        if on_wait and now - last_report > 2:
            last_report = now
            on_wait(f"waiting for the archive's server ({now - begin:.0f} s)")
        time.sleep(0.03)


def end_server(place: Place) -> bool:
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
    if "No space left on device" in log or "Disk quota exceeded" in log:
        return file_problem(OSError(errno.ENOSPC, "No space left on device"), place.data)
    shown = f"\n{log}" if log else ""
    return ArchiveUnavailable(f"{what}{shown}", f"see {place.log}; eureka doctor")
