"""The servers under a tortured run, which are killed too, and lives through the command line."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eurekaflow.flows.prefect_server import ensure_prefect, prefect_status
from eurekaflow.flows.services import open_services
from eurekaflow.models import postgres
from eurekaflow.models.daemons import is_alive
from tests.torture import World


def kill_postgres(home: Path) -> None:
    """SIGKILL for the home's postmaster."""
    pid = postgres.status(home).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def kill_prefect(home: Path) -> None:
    """SIGKILL for the home's Prefect server; it is gone afterwards."""
    pid = prefect_status(home).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.05)


def revive_prefect(home: Path) -> None:
    """Start the home's Prefect server again."""
    ensure_prefect(home, database_url=postgres.ensure(home).url_of("prefect"))


@contextmanager
def command_line_world(home: Path, world: World) -> Iterator[World]:
    """Lives through the `eureka` command, with Prefect; each a process that starts cold."""
    clean = {name: "" for name in os.environ if name.startswith(("EUREKA_", "PREFECT_"))}
    with open_services(home, prefect=True) as opened:
        made = World(opened.database_url, home, {**clean, "EUREKA_HOME": str(home)}, warmth="cold")
        made.tally, made.twin = world.tally, world.twin
        try:
            yield made
        finally:
            made.close()
            status = prefect_status(home)
            if status.pid is not None:
                os.kill(status.pid, signal.SIGTERM)
