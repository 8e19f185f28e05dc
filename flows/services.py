"""The lifetime of the embedded services: opened by who needs them, stopped when idle.

A process that needs them keeps a shared lock. `python -m eurekaflow.flows.services HOME` is the
supervisor, started along with the services: after 30 minutes without such a lock and without a
client of the archive it stops Prefect, then Postgres, and ends.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from eurekaflow.flows.prefect_server import (
    Progress,
    ensure_prefect,
    prefect_environment,
    prefect_status,
    stop_prefect,
)
from eurekaflow.models import postgres
from eurekaflow.models.daemons import spawn
from eurekaflow.models.errors import ArchiveUnavailable, UsageError
from eurekaflow.models.file_lock import FileLock, try_exclusive
from eurekaflow.models.postgres_files import control_folder

__all__ = [
    "Services",
    "ensure_prefect",
    "ensure_supervisor",
    "open_services",
    "prefect_environment",
    "prefect_status",
    "stop_prefect",
    "stop_services",
    "supervise",
]

IDLE_S = 30 * 60.0
INTERVAL_S = 60.0


@dataclass(frozen=True)
class Services:
    """Services that stay up until `close` or the end of a `with` block."""

    database_url: str
    api_url: str | None  # None when Prefect was not asked for
    _lock: FileLock

    def close(self) -> None:
        """This process needs them no longer."""
        if self._lock.descriptor >= 0:
            self._lock.touch()
        self._lock.close()

    def __enter__(self) -> Services:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_services(
    home: Path,
    *,
    prefect: bool = False,
    database_url: str | None = None,
    binaries: Path | None = None,
    on_wait: Progress | None = None,
) -> Services:
    """Start or join what is needed and keep it up.

    With `database_url` the archive is the user's own server and no Postgres is started; Prefect,
    if asked for, then keeps its records in SQLite. `binaries` is a folder with other Postgres
    programs. Raises PrerequisiteMissing and ArchiveUnavailable.
    """
    lock = postgres.hold(home)
    try:
        own = None
        if database_url is None:
            own = postgres.ensure(home, binaries=binaries, on_wait=on_wait)
        ensure_supervisor(home)
        api_url = None
        if prefect:
            records = own.url_of("prefect") if own else None
            api_url = ensure_prefect(home, database_url=records, on_wait=on_wait)
    except BaseException:
        lock.close()
        raise
    return Services(own.url if own else str(database_url), api_url, lock)


def stop_services(home: Path, *, force: bool = False) -> bool:
    """Stop Prefect, then Postgres, at once; whether any was running.

    Raises UsageError while a process holds them (unless `force`).
    """
    stopped: list[bool] = []
    stopped.append(
        postgres.stop(home, force=force, before=lambda: stopped.append(stop_prefect(home)))
    )
    return any(stopped)


def ensure_supervisor(home: Path) -> bool:
    """Start the supervisor of `home` unless one lives; whether it was started."""
    folder = control_folder(home)
    lock = try_exclusive(folder / "supervisor.lock")
    if lock is None:
        return False
    with lock:
        spawn(
            [sys.executable, "-P", "-m", "eurekaflow.flows.services", str(home.absolute())],
            log=folder / "supervisor.log",
            cwd=folder,
            lock_descriptor=lock.descriptor,
        )
    return True


def supervise(home: Path, *, idle_s: float = IDLE_S, interval_s: float = INTERVAL_S) -> None:
    """Stop the services of `home` once they have been idle for `idle_s` seconds, then return."""
    while True:
        time.sleep(interval_s)
        try:
            idle = postgres.idle_seconds(home)
            if idle >= idle_s:
                stop_services(home)
                return
        except (UsageError, ArchiveUnavailable):
            continue  # taken in the meantime, or slow to stop: look again later
        except FileNotFoundError:
            return  # the home was removed


if __name__ == "__main__":
    supervise(Path(sys.argv[1]))
