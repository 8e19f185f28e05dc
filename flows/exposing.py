"""The command `db expose`: the archive on a loopback TCP port, for tools that know no socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eurekaflow.flows.options import Flag, Json
from eurekaflow.models.errors import ArchiveUnavailable, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from eurekaflow.flows.configure import Surroundings
    from eurekaflow.models.exposure import Exposure

DEFAULT_PORT = 5433


def expose(
    *, port: int = DEFAULT_PORT, off: Flag = False, force: Flag = False, json: Json = False
) -> int:
    """Let the reader in over TCP on 127.0.0.1 with a password, until it is closed again.

    The server restarts for it. The port stays open across restarts.

    Parameters
    ----------
    port
        The port to listen on.
    off
        Close it: the password stops working at once.
    force
        Restart the server even while a process uses it; a run then repeats what was in flight.
    json
        Print JSON on stdout.
    """
    from eurekaflow.flows.configure import surroundings

    here = surroundings()
    require_embedded(here, "expose")
    if off:
        return _close(here.home, force=force)
    return _print(_open(here, port, force=force), json=json)


def _open(here: Surroundings, port: int, *, force: bool) -> Exposure:
    from eurekaflow.flows.connection import open_archive
    from eurekaflow.models import exposure, schema

    known = exposure.exposure(here.home)
    exposure.check_port(here.home, port)
    if known is None or known.port != port:
        _restart(here.home, force=force)
    found = exposure.remember(here.home, port)
    with open_archive(here) as url:
        schema.bootstrap(url)
        exposure.admit(here.home, found.password)
        if not exposure.listens(here.home):
            raise ArchiveUnavailable(
                f"the server started without port {port}: another program has it",
                "eureka db stop, then choose another port: eureka db expose --port N",
            )
    return found


def _close(home: Path, *, force: bool) -> int:
    import sys

    from eurekaflow.models import exposure

    was = exposure.forget(home)
    try:
        _restart(home, force=force)
        told = "closed" if was else "was not exposed"
    except UsageError:
        told = "closed to everybody; the port itself goes when the server next stops"
    print(told, file=sys.stderr)
    return 0


def _restart(home: Path, *, force: bool) -> None:
    """Stop the server, so that its next start reads the port. Raises UsageError while in use."""
    from eurekaflow.flows.services import stop_services
    from eurekaflow.models import postgres

    if force:
        postgres.stop(home, force=True)  # Prefect's server stays: a living run reports to it
        return
    try:
        stop_services(home)
    except UsageError as error:
        raise UsageError(
            f"{error.message}; opening or closing the port restarts it",
            "end that process first, or add --force: a run goes on after the restart",
        ) from None


def _print(found: Exposure, *, json: bool) -> int:
    import sys

    from eurekaflow.flows import rendering

    about = {"url": found.url, "port": found.port, "password_file": str(found.password_file)}
    if json:
        rendering.print_json(about)
    else:
        print(found.url)
        print(f"the password is in {found.password_file}", file=sys.stderr)
        print("close it again: eureka db expose --off", file=sys.stderr)
    return 0


def require_embedded(here: Surroundings, verb: str) -> None:
    """Raise UsageError unless the server is ours to `verb`."""
    if here.database_url is not None:
        raise UsageError(
            f"EUREKA_DATABASE_URL names a server of your own; it is not ours to {verb}",
            f"{verb} it with its own tools, or unset EUREKA_DATABASE_URL",
        )
