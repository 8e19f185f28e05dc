"""A Postgres server of its own for the statements of strangers: nothing else is in it.

It lives beside the archive's server, never in it: a statement that brings its server down takes
no archive along. Its processes are limited in memory and file size, and it is stopped when the
last one that uses it is done.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

from eurekaflow.models import postgres
from eurekaflow.models.errors import UsageError

FOLDER = "throwaway"
MEMORY_BYTES = 3 << 30  # address space of each server process, shared memory included
FILE_BYTES = 1 << 30


@contextlib.contextmanager
def throwaway(home: Path) -> Iterator[str]:
    """The URL of the server, for its superuser. Raises what `postgres.ensure` raises."""
    folder = home / FOLDER
    with postgres.hold(folder):
        cluster = postgres.ensure(folder)
        _limit(postgres.status(folder).pid)
        yield cluster.url_of("postgres")
    with contextlib.suppress(UsageError):  # another process uses it
        postgres.stop(folder)


def _limit(pid: int | None) -> None:
    """Limits of the postmaster; every backend started from now on inherits them."""
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        resource.prlimit(pid, resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
