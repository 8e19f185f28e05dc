"""A candidate's worker seen from the trusted one: asked, stopped, continued, counted.

Whatever it says is bounded and checked here; a reply that is not ours is a failure too.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from eurekaflow.verifiers.gpu_frames import receive, send

LARGEST_REPLY = 1 << 20
STOPPED_S = 5.0


class CandidateFailed(Exception):
    """What the candidate did wrong, and of which kind it is."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Attached:
    """A candidate's worker: its channel and its process, stopped and continued from here."""

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self.channel, self.pid = channel, pid

    def ask(
        self, request: dict[str, Any], timeout_s: float, largest: int = LARGEST_REPLY
    ) -> dict[str, Any]:
        """Its reply, whatever it is worth. Raises CandidateFailed."""
        self.channel.settimeout(timeout_s)
        try:
            send(self.channel, request)
            reply = json.loads(receive(self.channel, largest, within_s=timeout_s))
        except TimeoutError:
            raise CandidateFailed("timeout", f"no answer within {timeout_s:g} s") from None
        except (OSError, EOFError) as error:
            raise CandidateFailed("died", f"its process ended: {error}") from None
        except (ValueError, RecursionError):
            raise CandidateFailed("forged", "its reply is not ours") from None
        if not isinstance(reply, dict):
            raise CandidateFailed("forged", "its reply is not ours")
        if "error" in reply:
            kind = str(reply.get("kind", "raised"))
            raise CandidateFailed(kind, str(reply["error"])[:500])
        return reply

    def stop(self) -> None:
        """Stop every thread of it; returns once they are. It may have no other process then.

        Whatever it has started, and what those have, is stopped as well before it is refused.
        """
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + STOPPED_S
        while self._state() not in "Tt":
            if time.monotonic() > deadline:
                raise CandidateFailed("died", "its process could not be stopped")
            time.sleep(0.0002)
        if found := stop_descendants(self.pid, deadline):
            raise CandidateFailed("alive", f"{found} processes of it were running between calls")

    def go_on(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def threads(self) -> int:
        """Threads of its process, as the kernel counts them."""
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def children(self) -> int:
        """Living processes it has started; as pid 1 it inherits its orphans too."""
        return len(_children_of(self.pid))

    def _state(self) -> str:
        return _state_of(self.pid)

    def _signal(self, number: int) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            raise CandidateFailed("died", "its process ended") from None


def stop_descendants(pid: int, deadline: float) -> int:
    """Stop the living descendants of a stopped process, until none is new; how many there were."""
    stopped: set[int] = set()
    while new := _descendants(pid) - stopped:
        for one in new:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGSTOP)
        stopped |= new
        if time.monotonic() > deadline:
            break
    return len(stopped)


def _descendants(pid: int) -> set[int]:
    found, waiting = set[int](), [pid]
    while waiting:
        new = _children_of(waiting.pop()) - found
        found |= new
        waiting.extend(new)
    return found


def _children_of(pid: int) -> set[int]:
    """Living children of all threads of a process."""
    found = set()
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found |= {
                child for child in map(int, listing.read_text().split())
                if _state_of(child) not in "ZX"
            }  # fmt: skip
    return found


def _state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"


def finite(value: object) -> float:
    """A time that a candidate's clock may say. Raises CandidateFailed."""
    if type(value) is not float and type(value) is not int:
        raise CandidateFailed("forged", "its reply is not ours")
    if not (math.isfinite(value) and value >= 0):
        raise CandidateFailed("forged", f"its clock says {value}")
    return float(value)


def receive_ready(candidate: Attached, timeout_s: float) -> dict[str, Any]:
    """The first words of a candidate's worker. Raises CandidateFailed."""
    candidate.channel.settimeout(timeout_s)
    try:
        ready = json.loads(receive(candidate.channel, LARGEST_REPLY))
    except (OSError, EOFError) as error:
        raise CandidateFailed("start", f"its worker did not start: {error!r}") from None
    if "error" in ready:
        raise CandidateFailed("start", str(ready["error"]))
    return {"pid": ready["pid"]}
