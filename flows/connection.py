"""How a command reaches the archive: the user's server, or the embedded one, started if needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eurekaflow.models.errors import UsageError

if TYPE_CHECKING:
    from eurekaflow.flows.configure import Surroundings


class NoArchive(UsageError):
    """There is no archive yet, so there is nothing to read."""


@contextmanager
def open_archive(here: Surroundings) -> Iterator[str]:
    """The archive's URL for the length of a `with` block; its server stays up meanwhile."""
    if here.database_url is not None:
        yield here.database_url
        return
    from eurekaflow.flows.services import open_services

    with open_services(here.home) as opened:
        yield opened.database_url


@contextmanager
def existing_archive(here: Surroundings) -> Iterator[str]:
    """The URL of an archive that is there already. Raises NoArchive when there is none."""
    require_archive(here)
    with open_archive(here) as url:
        yield url


def require_server(here: Surroundings) -> None:
    """Raise ArchiveUnavailable where a server of the user's own does not answer.

    Asked before anything that takes minutes or starts another server.
    """
    if here.database_url is not None:
        from eurekaflow.models.questions import ask

        ask(here.database_url, "select 1")


def require_archive(here: Surroundings) -> None:
    """Raise NoArchive where no run can have been: then no server is made and started for it."""
    if here.database_url is None:
        from eurekaflow.models.postgres_files import find_place

        if find_place(here.home) is None:
            raise NoArchive(f"there is no archive in {here.home} yet", "eureka run erdos")
