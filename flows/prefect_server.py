"""The local Prefect server: one detached process for each home, found again by its lock.

`home/prefect/run.lock` is inherited by the server, so it is locked exactly while the server
lives; `server.json` beside it names the port. A server counts as ours only if that lock is held
and the API itself reports our folder as its PREFECT_HOME. Nothing here imports prefect, and the
server makes no connection to the outside.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from eurekaflow.models.daemons import end, is_alive, plain_environment, spawn, tail
from eurekaflow.models.errors import PrerequisiteMissing
from eurekaflow.models.file_lock import is_locked, try_exclusive

PREFERRED_PORT = 4200  # Prefect's own, so that its documentation's links work
HEARTBEATS = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}  # the shortest that Prefect allows
START_TIMEOUT_S = 240.0  # migrations on a slow machine took 20 s
Progress = Callable[[str], None]


@dataclass(frozen=True)
class PrefectStatus:
    """What is known of the Prefect server without starting it."""

    running: bool  # the API answers and is ours
    pid: int | None
    api_url: str | None
    database: str  # "postgres", "sqlite" or empty when unknown


@dataclass(frozen=True)
class _Server:
    """The content of server.json."""

    pid: int
    port: int
    database: str

    @property
    def api_url(self) -> str:
        return _api_url(self.port)


def ensure_prefect(
    home: Path,
    *,
    database_url: str | None,
    timeout_s: float = START_TIMEOUT_S,
    on_wait: Progress | None = None,
) -> str:
    """The API URL of the running server of `home`, started first where needed.

    `database_url` is a Postgres database for Prefect alone; without one, or without the
    extension pg_trgm there, Prefect keeps its records in SQLite under `home/prefect`.
    Raises PrerequisiteMissing when the server ends or is not ready after `timeout_s` seconds.
    """
    folder = home.absolute() / "prefect"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    report = _Reporter(on_wait)
    while time.monotonic() < deadline:
        server = _read(folder)
        if server is not None and _is_ours(folder, server):
            return server.api_url
        if (starter := try_exclusive(folder / "start.lock")) is not None:
            with starter:
                return _start(folder, database_url, deadline, report)
        report("waiting for another process to start the Prefect server")
        time.sleep(0.1)
    raise PrerequisiteMissing(
        f"another process has been starting the Prefect server for {timeout_s:.0f} s",
        f"see {folder / 'server.log'}; eureka db stop",
    )


def prefect_environment(
    home: Path, api_url: str, *, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Variables to set before prefect is imported, in the runner and in the server.

    `environment` is the present one: loopback is added to its list of hosts without a proxy.
    """
    folder = home.absolute() / "prefect"
    present = environment or {}
    direct = ",".join(
        filter(None, [present.get("no_proxy") or present.get("NO_PROXY"), "127.0.0.1,localhost"])
    )
    return {
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_API_URL": api_url,
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
        **HEARTBEATS,
        "DO_NOT_TRACK": "1",
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


def prefect_status(home: Path) -> PrefectStatus:
    """What the server of `home` is doing; starts and changes nothing."""
    folder = home.absolute() / "prefect"
    server = _read(folder)
    if server is None or not is_locked(folder / "run.lock"):
        return PrefectStatus(False, None, None, "")
    ours = _is_ours(folder, server)
    return PrefectStatus(ours, server.pid, server.api_url, server.database)


def is_local(home: Path, api_url: str) -> bool:
    """Whether a URL is that of the server of `home`, running or not."""
    server = _read(home.absolute() / "prefect")
    return server is not None and server.api_url == api_url


def stop_prefect(home: Path) -> bool:
    """Stop the server of `home`; whether one was running."""
    folder = home.absolute() / "prefect"
    server = _read(folder)
    lock = folder / "run.lock"
    # The lock proves that the recorded process still is the server and not a stranger's.
    if server is None or not is_locked(lock) or not is_alive(server.pid):
        return False
    return end(
        server.pid,
        [(signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)],
        lambda: not is_alive(server.pid) and not is_locked(lock),
    )


class _Reporter:
    """Passes a message on at most every two seconds."""

    def __init__(self, on_wait: Progress | None) -> None:
        self._on_wait = on_wait
        self._begin = self._last = time.monotonic()

    def __call__(self, message: str) -> None:
        now = time.monotonic()
        if self._on_wait and now - self._last > 2:
            self._last = now
            self._on_wait(f"{message} ({now - self._begin:.0f} s)")


def _start(folder: Path, database_url: str | None, deadline: float, report: _Reporter) -> str:
    """Under the start lock: start the server unless one lives, and wait until it is ready."""
    log = folder / "server.log"
    begin = log.stat().st_size if log.exists() else 0
    server = _read(folder)
    if not is_locked(folder / "run.lock"):
        remembered = server.port if server is not None else PREFERRED_PORT
        server = _spawn(folder, _free_port(remembered), database_url)
    if server is None:
        raise PrerequisiteMissing(
            f"a Prefect server of {folder} lives but did not note its port",
            "end that process (prefect server start) and try again",
        )
    while not _is_ours(folder, server):
        text = tail(log, start=begin)
        if not is_locked(folder / "run.lock"):
            if "already in use" in text and server.port:
                server = _spawn(folder, _free_port(0), database_url)
                begin = log.stat().st_size
                continue
            raise PrerequisiteMissing(
                f"the Prefect server ended while starting\n{text}", _fix(log)
            )
        if time.monotonic() > deadline:
            raise PrerequisiteMissing(f"the Prefect server is not ready\n{text}", _fix(log))
        report("waiting for the Prefect server")
        time.sleep(0.1)
    return server.api_url


def _fix(log: Path) -> str:
    return f"see {log}; pip install 'prefect>=3.8.8,<4' 'fastapi<0.151'"


def _spawn(folder: Path, port: int, database_url: str | None) -> _Server:
    connection, kind = _prefect_database(folder, database_url)
    lock = try_exclusive(folder / "run.lock", wait_s=1.0)
    if lock is None:
        raise PrerequisiteMissing(f"{folder / 'run.lock'} is locked", "eureka db stop")
    options = ["--host", "127.0.0.1", "--port", str(port)]
    with lock:
        pid = spawn(
            # -P: the server's own folder is not a place to import from.
            [sys.executable, "-P", "-m", "prefect", "server", "start", *options],
            log=folder / "server.log",
            cwd=folder,
            lock_descriptor=lock.descriptor,
            environment=_server_environment(folder, port, connection),
        )
        server = _Server(pid, port, kind)
        draft = folder / "server.json.new"
        draft.write_text(json.dumps(server.__dict__))
        draft.replace(folder / "server.json")
    return server


def _server_environment(folder: Path, port: int, connection: str) -> dict[str, str]:
    api_url = _api_url(port)
    return {
        **plain_environment(),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "HOME": str(folder),
        **prefect_environment(folder.parent, api_url),
        "PREFECT_SERVER_UI_API_URL": api_url,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": connection,
    }


def _prefect_database(folder: Path, database_url: str | None) -> tuple[str, str]:
    """The server's connection URL and what it is: "postgres" or "sqlite"."""
    scheme, _, rest = (database_url or "").partition("://")
    if database_url and scheme.partition("+")[0] in ("postgresql", "postgres"):
        plain = f"postgresql://{rest}"
        with psycopg.connect(plain, connect_timeout=10) as connection:
            query = "select 1 from pg_available_extensions where name = 'pg_trgm'"
            if connection.execute(query).fetchone():
                return f"postgresql+asyncpg://{rest}", "postgres"
    return f"sqlite+aiosqlite:///{folder / 'prefect.db'}", "sqlite"


def _read(folder: Path) -> _Server | None:
    try:
        found = json.loads((folder / "server.json").read_text())
        return _Server(int(found["pid"]), int(found["port"]), str(found["database"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _api_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/api"


def _is_ours(folder: Path, server: _Server) -> bool:
    """Whether the API answers with a working database, from the server of this folder."""
    if not is_locked(folder / "run.lock") or _get(server.api_url + "/ready") is None:
        return False
    settings = _get(server.api_url + "/admin/settings")
    return isinstance(settings, dict) and settings.get("home") == str(folder)


def _get(url: str) -> object:
    """The JSON answer to a request that uses no proxy; None for any failure."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=10) as response:
            answer: object = json.load(response)
            return answer
    except (OSError, ValueError, urllib.error.URLError):
        return None


def _free_port(preferred: int) -> int:
    """`preferred` if nothing listens there, else 4200, else any free port."""
    for port in _candidate_ports(preferred):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise PrerequisiteMissing("no free port on 127.0.0.1", "ss -ltn shows who has them")


def _candidate_ports(preferred: int) -> Iterator[int]:
    if preferred:
        yield from dict.fromkeys((preferred, PREFERRED_PORT))
    yield 0
