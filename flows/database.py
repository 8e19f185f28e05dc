"""The commands `db …`: the archive's server, its schema and its size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from eurekaflow.flows.options import Flag, Json

if TYPE_CHECKING:
    from eurekaflow.flows.configure import Surroundings

app = App(name="db", help="The archive's database.")
app.command("eurekaflow.flows.exposing:expose", help="Open a TCP port for readers, or close it.")
app.command("eurekaflow.flows.sizes:size", help="How large the archive is, and how it grows.")
app.command("eurekaflow.flows.sizes:prune", help="Drop tokens and texts of old steps.")


@app.command
def start() -> int:
    """Start the embedded server and print the archive's URL."""
    from eurekaflow.flows.connection import open_archive
    from eurekaflow.models.schema import bootstrap

    with open_archive(_here()) as url:
        bootstrap(url)
        print(url)
    return 0


@app.command
def stop(*, force: Flag = False) -> int:
    """Stop the embedded servers (Prefect's, then Postgres). Nothing is lost.

    Parameters
    ----------
    force
        Stop them even while a process uses them.
    """
    import sys

    from eurekaflow.flows.exposing import require_embedded
    from eurekaflow.flows.services import stop_services

    here = _here()
    require_embedded(here, "stop")
    stopped = stop_services(here.home, force=force)
    print("stopped" if stopped else "was not running", file=sys.stderr)
    return 0


@app.command
def status(*, json: Json = False) -> int:
    """What the servers are doing; starts nothing.

    Parameters
    ----------
    json
        Print JSON on stdout.
    """
    from eurekaflow.flows.rendering import print_json, print_pairs

    found = _status(_here())
    if json:
        print_json(found)
    else:
        print_pairs((name, value if value else None) for name, value in found.items())
    return 0


def _status(here: Surroundings) -> dict[str, object]:
    from eurekaflow.flows.services import prefect_status
    from eurekaflow.models import postgres
    from eurekaflow.models.exposure import exposure

    prefect = prefect_status(here.home)
    about: dict[str, object] = {
        "home": str(here.home),
        "prefect": here.prefect_api_url or prefect.api_url or "stopped",
    }
    if here.database_url is not None:
        return {**about, "state": "your own server (EUREKA_DATABASE_URL)"}
    found = postgres.status(here.home)
    exposed = exposure(here.home)
    return {
        **about,
        "state": found.state,
        "version": found.version,
        "data": str(found.data or ""),
        "pid": str(found.pid or ""),
        "used by": ", ".join(map(str, found.users)),
        "exposed": f"127.0.0.1:{exposed.port}" if exposed else "",
    }


@app.command(name="url")
def print_url(*, reader: Flag = False) -> int:
    """Print the archive's URL, for psql and other clients; starts nothing.

    Parameters
    ----------
    reader
        As the role that may read the public views and nothing else.
    """
    from eurekaflow.models import postgres
    from eurekaflow.models.reader import reader_url

    here = _here()
    url = here.database_url or postgres.url(here.home)
    print(reader_url(url) if reader else url)
    return 0


@app.command
def upgrade() -> int:
    """Bring the archive to this version's schema; the embedded one is backed up first."""
    import sys

    from eurekaflow.flows.connection import open_archive
    from eurekaflow.models import schema

    here = _here()
    with open_archive(here) as url:
        found = schema.current(url)
        if found == schema.head():
            print(f"already at revision {found}", file=sys.stderr)
            return 0
        if found is not None and here.database_url is None:
            print(f"backup: {_backup(here, url, found)}", file=sys.stderr)
        schema.upgrade(url)
        print(f"upgraded from {found or 'nothing'} to {schema.head()}", file=sys.stderr)
    return 0


def _backup(here: Surroundings, url: str, revision: str) -> Path:
    """Dump the archive into the home folder, in Postgres' custom format."""
    import time

    from eurekaflow.flows.backup import dump

    folder = here.home / "backups"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-revision-{revision}.dump"
    try:
        dump(url, file)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return file


@app.command
def backup(file: Path, /) -> int:
    """Write the archive and the checkpoints it names to one file.

    Parameters
    ----------
    file
        The file to write; an older one is replaced once the new one is whole.
    """
    import sys

    from eurekaflow.flows import backup as backups
    from eurekaflow.flows.connection import existing_archive
    from eurekaflow.flows.rendering import size as in_units

    here = _here()
    with existing_archive(here) as url:
        made = backups.write(here.home, url, file)
    told = f"{made.runs} runs, {made.checkpoints} checkpoints, {in_units(file.stat().st_size)}"
    print(f"wrote {file}: {told}", file=sys.stderr)
    return 0


@app.command
def restore(file: Path, /, *, replace: Flag = False) -> int:
    """Put a backup in place: the archive and its checkpoints, under any EUREKA_HOME.

    Parameters
    ----------
    file
        A file that `eureka db backup` wrote.
    replace
        Replace an archive that holds runs; the embedded one is backed up first.
    """
    import sys

    from eurekaflow.flows import backup as backups
    from eurekaflow.flows.connection import open_archive
    from eurekaflow.models import schema

    here = _here()
    with open_archive(here) as url:
        found = schema.current(url)
        if replace and found is not None and here.database_url is None:
            print(f"backup: {_backup(here, url, found)}", file=sys.stderr)
        made = backups.read(here.home, url, file, replace=replace)
    print(
        f"restored {made.runs} runs and {made.checkpoints} checkpoints of {made.home}, as of "
        f"{made.made_at}; eureka resume says whether bit equality holds here",
        file=sys.stderr,
    )
    return 0


@app.command
def rebuild(ref: str, /) -> int:
    """Recompute a run's tree counters from its attempts.

    Parameters
    ----------
    ref
        The run's id or the beginning of it, or `last`.
    """
    import sys

    from eurekaflow.flows.connection import open_archive
    from eurekaflow.models.archive import Archive

    with open_archive(_here()) as url:
        archive = Archive(url)
        try:
            run = archive.run(ref)
            changed = archive.rebuild(run.id)
        finally:
            archive.close()
    print(f"rebuilt the tree of {run.uuid}: {len(changed)} differences", file=sys.stderr)
    return 0


def _here() -> Surroundings:
    from eurekaflow.flows.configure import surroundings

    return surroundings()
