"""Opening the embedded server to tools that know TCP alone, and closing it again.

The port is a setting of the server's start, so that opening it restarts the server; everybody is
disconnected for a moment, nothing is lost. The password is random, made once, kept in a file of
mode 0600 and given to the server as a SCRAM verifier only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from eurekaflow.models import postgres
from eurekaflow.models.errors import UsageError
from eurekaflow.models.postgres_files import control_folder
from eurekaflow.models.postgres_network import (
    ADDRESS,
    exposed_port,
    is_free,
    password_file,
    port_file,
)
from eurekaflow.models.reader import READER

LOWEST_PORT = 1024
_CLOSE = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where usename = %s and client_addr is not null"""


@dataclass(frozen=True)
class Exposure:
    """How a tool reaches the archive over TCP, as the reader."""

    port: int
    password: str
    password_file: Path

    @property
    def url(self) -> str:
        """The DSN with the password in it."""
        return f"postgresql://{READER}:{self.password}@{ADDRESS}:{self.port}/eureka"


def exposure(home: Path) -> Exposure | None:
    """How the archive is exposed now; None when it is not."""
    folder = home.absolute() / "postgres"
    port = exposed_port(folder)
    try:
        password = password_file(folder).read_text().strip()
    except OSError:
        return None
    return None if port is None else Exposure(port, password, password_file(folder))


def check_port(home: Path, port: int) -> None:
    """Raise UsageError unless the server may listen on `port`."""
    if not LOWEST_PORT <= port <= 65535:
        raise UsageError(
            f"port {port} is not between {LOWEST_PORT} and 65535", "choose another: --port 5433"
        )
    if exposed_port(home.absolute() / "postgres") != port and not is_free(port):
        raise UsageError(f"port {port} is taken by another program", "choose another: --port N")


def remember(home: Path, port: int) -> Exposure:
    """Write port and password down; the server's next start opens the port."""
    folder = control_folder(home)
    file = password_file(folder)
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(24) + "\n")
    port_file(folder).write_text(f"{port}\n")
    return Exposure(port, file.read_text().strip(), file)


def admit(home: Path, password: str) -> None:
    """Give the reader's role its password. The archive must have been made."""
    with psycopg.connect(postgres.url(home), autocommit=True) as connection:
        secret = connection.pgconn.encrypt_password(
            password.encode(), READER.encode(), b"scram-sha-256"
        ).decode()
        change = sql.SQL("alter role {} password {}")
        connection.execute(change.format(sql.Identifier(READER), sql.Literal(secret)))


def forget(home: Path) -> bool:
    """Take the password away and end the reader's TCP sessions; whether it was exposed.

    Nobody gets in from now on; the port itself closes when the server next starts.
    """
    folder = control_folder(home)
    was = exposed_port(folder) is not None
    port_file(folder).unlink(missing_ok=True)
    password_file(folder).unlink(missing_ok=True)
    if postgres.status(home).state == "running":
        with psycopg.connect(postgres.url(home), autocommit=True) as connection:
            remove = sql.SQL("alter role {} password null").format(sql.Identifier(READER))
            with contextlib.suppress(psycopg.errors.UndefinedObject):  # never made
                connection.execute(remove)
            connection.execute(_CLOSE, [READER])
    return was


def listens(home: Path) -> bool:
    """Whether the running server has its port open."""
    with psycopg.connect(postgres.url(home), autocommit=True) as connection:
        row = connection.execute("show listen_addresses").fetchone()
    return row is not None and bool(row[0])
