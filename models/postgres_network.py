"""Whether the embedded server listens on a TCP port, and who may come that way.

Nobody may, unless `home/postgres/port` names a port. Then 127.0.0.1 alone is listened on, and the
reader alone is let in, to the archive's database alone, with a password (SCRAM). A port that
another program has taken meanwhile is left to it: the archive starts without one.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

from eurekaflow.models.reader import READER

ADDRESS = "127.0.0.1"
SOCKET_PORT = 5432  # part of the socket's name; clients of the socket know no other
_HBA = f"""\
# Written by eurekaflow at every start.
local all     all       trust
host  eureka  {READER}  {ADDRESS}/32  scram-sha-256
host  all     all       all  reject
"""


def port_file(folder: Path) -> Path:
    """The file that names the port; `folder` is `home/postgres`."""
    return folder / "port"


def password_file(folder: Path) -> Path:
    """The file, mode 0600, with the reader's password."""
    return folder / "reader.password"


def exposed_port(folder: Path) -> int | None:
    """The port the server is to listen on; None when it is not exposed."""
    try:
        return int(port_file(folder).read_text())
    except (OSError, ValueError):
        return None


def is_free(port: int) -> bool:
    """Whether a server could listen on the port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def network_settings(folder: Path, settings: Path) -> str:
    """Lines for the server's configuration; writes the rules of access beside `settings`."""
    port = exposed_port(folder)
    if port is None or not is_free(port):
        return f"listen_addresses = ''\nport = {SOCKET_PORT}\n"
    rules = settings.with_name("server_hba.conf")
    rules.write_text(_HBA)
    rules.chmod(0o644)
    quoted = str(rules).replace("'", "''")
    return f"listen_addresses = '{ADDRESS}'\nport = {port}\nhba_file = '{quoted}'\n"


def clear_sockets(data: Path) -> None:
    """Remove sockets of an ended server: their names depend on the port."""
    for path in data.glob(".s.PGSQL.*"):
        path.unlink(missing_ok=True)


def link_socket(data: Path, settings: Path) -> None:
    """Keep the socket's usual name when the port, and with it the name, is another."""
    port = re.search(r"^port = (\d+)$", settings.read_text(), re.MULTILINE)
    if port and int(port[1]) != SOCKET_PORT:
        (data / f".s.PGSQL.{SOCKET_PORT}").symlink_to(f".s.PGSQL.{port[1]}")
