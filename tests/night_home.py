"""A home of its own for tests of unattended work: the real command, service and Prefect."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psycopg

from eurekaflow.flows import services
from eurekaflow.models import postgres
from tests.scripted_run import ANSWERS

COMMAND = [sys.executable, "-m", "eurekaflow.flows.cli"]
SIZES = ["groups=2", "group_size=6", "wave=3", "lr=0.1", "max_new_tokens=200", "window=4096"]


class NightHome:
    """A home folder, and what a user does with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        answers = folder / "answers.json"
        answers.write_text(json.dumps(ANSWERS))
        self.sizes = ["--preset", "small-cpu", "--model", f"scripted:{answers}"]
        # One worker: a zygote costs more than what it runs.
        self.sizes += [word for text in (*SIZES, "workers=1") for word in ("--set", text)]
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("EUREKA_", "PREFECT_"))}
        self.environment = plain | {
            "EUREKA_HOME": str(folder),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def eureka(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=240)
        assert process.returncode == code, err
        return out

    def serve(self) -> subprocess.Popen[bytes]:
        """The service, its words in serve.log."""
        with (self.folder / "serve.log").open("ab") as log:
            command = [*COMMAND, "nightly", "serve", "--interval", "2", "--patience", "20"]
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def rows(self, sql: str, database: str = "eureka") -> list[tuple[Any, ...]]:
        url = postgres.url(self.folder, database)
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def api(self, path: str, body: dict[str, Any] | None = None, method: str = "") -> Any:
        """One request to the home's Prefect server."""
        url = services.prefect_status(self.folder).api_url
        if url is None:
            raise ConnectionError("Prefect's server is not there yet")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{url}/{path}",
            data=data,
            headers={"Content-Type": "application/json"},
            method=method or ("GET" if data is None else "POST"),
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read() or "null")

    def wait(self, sql: str, seconds: float = 300) -> tuple[Any, ...]:
        """The first row that a question gives, asked until there is one."""
        return until(lambda: next(iter(self.rows(sql)), None), seconds, sql)

    def kill_flow(self) -> int:
        """`kill -9` of the process of the night that is under way; its number."""
        found = subprocess.run(
            ["pgrep", "-f", "prefect.engine|_workspace_"],
            capture_output=True,
            text=True,
            check=False,
        )
        mine = [int(pid) for pid in found.stdout.split() if self.owns(int(pid))]
        for pid in mine:
            os.kill(pid, signal.SIGKILL)
        return len(mine)

    def owns(self, pid: int) -> bool:
        """Whether a process works for this home."""
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False
        return f"EUREKA_HOME={self.folder}".encode() in environment


def until(ask: Callable[[], Any], seconds: float, what: str) -> Any:
    """What `ask` answers once it is not None."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            if (answer := ask()) is not None:
                return answer
        except (OSError, psycopg.Error):
            pass
        time.sleep(0.5)
    raise AssertionError(f"{seconds:.0f} s passed without {what}")


@contextmanager
def night_home() -> Iterator[NightHome]:
    """A home that is cleared away afterwards, its services stopped."""
    folder = Path(tempfile.mkdtemp(prefix="eurekaflow-nights-"))
    folder.chmod(0o755)
    try:
        yield NightHome(folder)
    finally:
        services.stop_services(folder, force=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def sink() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A web server on this machine that keeps what is posted to it."""
    posts: list[dict[str, Any]] = []

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Keep)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", posts
    finally:
        server.shutdown()
        server.server_close()
