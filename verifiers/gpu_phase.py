"""How a kernel's trial ends: what the workers' reports mean, and the time its parts may take."""

from __future__ import annotations

import time
from typing import Any

from eurekaflow.verifiers.problem import Outcome
from eurekaflow.verifiers.sandbox import Cause

OUTCOMES = {
    "timeout": Outcome.TIMEOUT,
    "died": Outcome.KILLED,
    "raised": Outcome.RAISED,
    "memory": Outcome.MEMORY,
    "forged": Outcome.EXPLOIT,
    "mutated": Outcome.EXPLOIT,
    "alive": Outcome.EXPLOIT,
}
CAUSES = {
    Outcome.TIMEOUT: Cause.TIMEOUT,
    Outcome.KILLED: Cause.KILLED,
    Outcome.RAISED: Cause.RAISED,
    Outcome.MEMORY: Cause.MEMORY,
}


class Failed(Exception):
    """The candidate's fault; `outcome` is what the verdict says."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class Unrecorded(Exception):
    """The program's call cannot be played as a graph; nobody's fault."""


class Phase:
    """Seconds that a part of a trial may take in all."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.seconds = name, seconds
        self._ends = time.monotonic() + seconds

    def within(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request with no more time than is left. Raises Failed when there is none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise Failed(Outcome.TIMEOUT, f"{self.name} took more than {self.seconds:g} s")
        return {
            **request,
            **{name: min(request[name], left) for name in ("timeout_s", "compile_s")},
        }
