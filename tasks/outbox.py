"""Responses on their way to the archive: stored by count, and by time where few finish.

A group that fills slowly does not keep what it has in memory: a thread stores whatever has waited
for a second. Where the sampling thread feeds a device, the other thread does all the storing.
Leaving the block stores the rest, whatever ended it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from eurekaflow.models.policy import Response

WAIT_S = 1.0  # for which a finished response may be in memory alone
MOST = 128  # responses in memory beyond which `add` waits for the store that is under way
Store = Callable[[Mapping[int, list[Response]]], None]  # responses by group, one call at a time


class Outbox:
    """Collects responses by group and hands them to `store`, `every` at a time or after WAIT_S.

    `aside` keeps `add` from storing: it waits for the database only when MOST responses do. An
    error of `store` is raised by the next `add`, or at the end of the block.
    """

    def __init__(self, store: Store, *, every: int, aside: bool = False) -> None:
        self._store, self._every, self._aside = store, every, aside
        self._wait_s = WAIT_S / 10 if aside else WAIT_S  # less is left for the block's end
        self._rows: dict[int, list[Response]] = {}
        self._since: dict[int, float] = {}  # when a group's oldest row came
        self._guard = threading.Lock()  # of what is collected
        self._turn = threading.Lock()  # to store
        self._full, self._stop = threading.Event(), threading.Event()
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
        self._full.set()
        self._thread.join()
        self._raise()
        self._send(older_than_s=0.0)

    def add(self, group: int, response: Response) -> None:
        """Take a response; its group is stored when it has enough."""
        self._raise()
        with self._guard:
            self._rows.setdefault(group, []).append(response)
            self._since.setdefault(group, time.monotonic())
            full = len(self._rows[group]) >= self._every
            held = sum(map(len, self._rows.values()))
        if full and self._aside:
            self._full.set()
            if held > MOST:
                with self._turn:  # until what is being stored is stored
                    pass
        elif full:
            self._send(older_than_s=self._wait_s)

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._full.wait(self._wait_s / 4)
            self._full.clear()
            try:
                self._send(older_than_s=self._wait_s)
            except BaseException as error:
                self._error = error
                return

    def _send(self, *, older_than_s: float) -> None:
        """Store the groups that are full or old enough, together."""
        with self._turn:
            if taken := self._take(older_than_s):
                self._store(taken)

    def _take(self, older_than_s: float) -> dict[int, list[Response]]:
        with self._guard:
            now = time.monotonic()
            due = [
                group
                for group, since in self._since.items()
                if now - since >= older_than_s or len(self._rows[group]) >= self._every
            ]
            for group in due:
                del self._since[group]
            return {group: self._rows.pop(group) for group in due}

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
