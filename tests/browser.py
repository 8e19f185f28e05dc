"""A headless Chromium for the tests, over its debugging protocol: what a page did and shows.

It resolves no name but localhost, so a page that asks anybody outside fails to; what it asked for
is recorded all the same.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.docker_engine import missing

WIDTH, HEIGHT = 1200, 800
START_S, LOAD_S, QUIET_S = 60.0, 60.0, 0.5
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--disable-dev-shm-usage", "--remote-debugging-port=0", f"--window-size={WIDTH},{HEIGHT}",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
)  # fmt: skip
COMPLAINTS = {"Runtime.exceptionThrown", "Page.javascriptDialogOpening"}


@dataclass
class Tab:
    """One page: commands to it, and what it did meanwhile."""

    line: Any  # websockets' connection
    asked: list[str] = field(default_factory=list)  # URLs of all requests
    complaints: list[str] = field(default_factory=list)  # errors, exceptions, dialogs
    loaded: bool = False
    sent: int = 0

    def call(self, method: str, **parameters: Any) -> Any:
        """One command's result, events noted while it is awaited."""
        self.sent += 1
        self.line.send(json.dumps({"id": self.sent, "method": method, "params": parameters}))
        while True:
            said = json.loads(self.line.recv(timeout=LOAD_S))
            if said.get("id") == self.sent:
                assert "error" not in said, said
                return said["result"]
            self.note(said)

    def note(self, event: dict[str, Any]) -> None:
        """Remember what an event says."""
        name, said = event.get("method", ""), event.get("params", {})
        if name == "Network.requestWillBeSent":
            self.asked.append(said["request"]["url"])
        elif name == "Network.webSocketCreated":
            self.asked.append(said["url"])
        elif name == "Page.loadEventFired":
            self.loaded = True
        elif name in COMPLAINTS or (
            (name == "Log.entryAdded" and said["entry"]["level"] == "error")
            or (name == "Runtime.consoleAPICalled" and said["type"] in ("error", "assert"))
        ):  # fmt: skip
            self.complaints.append(json.dumps(said)[:600])

    def listen(self, seconds: float) -> None:
        """Note events for a while."""
        limit = time.monotonic() + seconds
        while (left := limit - time.monotonic()) > 0:
            try:
                self.note(json.loads(self.line.recv(timeout=left)))
            except TimeoutError:
                return

    def open(self, url: str, *, until: str = "true") -> None:
        """Go to a page and stay until it is loaded and the expression `until` is true."""
        self.loaded = False
        self.call("Page.navigate", url=url)
        limit = time.monotonic() + LOAD_S
        while not (self.loaded and self.value(until)):
            assert time.monotonic() < limit, f"{url}: {until} within {LOAD_S} s; {self.complaints}"
            self.listen(0.1)
        self.listen(QUIET_S)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is on the page."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return done["result"].get("value")

    def picture(self) -> bytes:
        """What is seen of the page, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


def program() -> str:
    """Chromium's path: a failure in CI, which installs it, elsewhere a skip."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        reason = "chromium is not installed: apt-get install chromium"
        missing(reason)
    return str(found)


@contextmanager
def chromium() -> Iterator[int]:
    """A browser with a profile of its own; its debugging port."""
    path = program()
    with tempfile.TemporaryDirectory(
        prefix="eurekaflow-chromium-", ignore_cleanup_errors=True
    ) as folder:
        process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": folder},
        )
        try:
            yield port_of(Path(folder) / "DevToolsActivePort", process)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def port_of(file: Path, process: subprocess.Popen[bytes]) -> int:
    """The port that Chromium writes down once it listens."""
    limit = time.monotonic() + START_S
    while time.monotonic() < limit and process.poll() is None:
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.1)
    raise AssertionError(f"chromium did not start (exit code {process.poll()})")


@contextmanager
def tab(port: int) -> Iterator[Tab]:
    """A new page of a running browser."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
    with urllib.request.urlopen(request, timeout=20) as reply:
        address = json.load(reply)["webSocketDebuggerUrl"]
    with connect(address, max_size=None, proxy=None) as line:
        opened = Tab(line)
        for domain in ("Page", "Network", "Runtime", "Log"):
            opened.call(f"{domain}.enable")
        yield opened
        with suppress(WebSocketException, TimeoutError):
            opened.call("Page.close")
