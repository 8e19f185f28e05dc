"""What a program is tried on: cases to be right on, and to be timed on; in how many processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eurekaflow.verifiers.gpu_verdict import OFFICIAL, STRICT


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a program is tried on, in which mode, and how often each case is timed."""

    task: str
    entry: str
    benchmarks: Sequence[dict[str, Any]]
    tests: Sequence[dict[str, Any]] = ()
    hidden: Sequence[dict[str, Any]] = ()
    mode: str = STRICT
    calls: int = 20
    processes: int = 1  # that time it one after another; a process has a speed of its own
    record: bool = False  # play the timed calls as CUDA graphs, where that can be done
    scored: Sequence[int] | None = None  # benchmarks that make the score; all by default
    compile_s: float = 300.0
    call_s: float = 20.0
    phase_s: float = 1200.0  # of all tests with loading, and of a process' timed cases
    profile: bool = True

    @property
    def common(self) -> dict[str, Any]:
        """What every request about a case says."""
        return {
            "flush": self.mode != OFFICIAL,
            "timeout_s": self.call_s,
            "compile_s": self.compile_s,
        }


def said(case: dict[str, Any]) -> str:
    """A case in brackets, for people."""
    shown = [name if value is True else f"{name}={value}" for name, value in case.items() if value]
    return f"({', '.join(shown)})"
