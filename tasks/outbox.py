"""Responses on their way to the archive: stored by count, and by time where few finish.

A group that fills slowly does not keep what it has in memory: a thread stores whatever has waited
for a second. Leaving the block stores the rest, whatever ended it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from eurekaflow.models.policy import Response

WAIT_S = 1.0  # for which a finished response may be in memory alone
Store = Callable[[int, list[Response]], None]  # (group, its responses), one call at a time


class Outbox:
    """Collects responses by group and hands them to `store`, `every` at a time or after WAIT_S.

    An error of `store` is raised by the next `add`, or at the end of the block.
    """

    def __init__(self, store: Store, *, every: int) -> None:
        self._store, self._every = store, every
        self._rows: dict[int, list[Response]] = {}
        self._since: dict[int, float] = {}  # when a group's oldest row came
        self._guard, self._stop = threading.Lock(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, name="outbox", daemon=True)

    def __enter__(self) -> Outbox:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._raise()
        self._send(older_than_s=0.0)

    def add(self, group: int, response: Response) -> None:
        """Take a response; its group is stored when it has enough."""
        self._raise()
        with self._guard:
            self._rows.setdefault(group, []).append(response)
            self._since.setdefault(group, time.monotonic())
            if len(self._rows[group]) >= self._every:
                self._send_group(group)

    def _watch(self) -> None:
        while not self._stop.wait(WAIT_S / 4):
            try:
                self._send(older_than_s=WAIT_S)
            except BaseException as error:
                self._error = error
                return

    def _send(self, *, older_than_s: float) -> None:
        with self._guard:
            now = time.monotonic()
            for group in [g for g, at in self._since.items() if now - at >= older_than_s]:
                self._send_group(group)

    def _send_group(self, group: int) -> None:
        del self._since[group]
        self._store(group, self._rows.pop(group))

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
