"""Telling a poisoned piece of work from broken infrastructure, and setting it aside.

Work that fails twice for the same reason while something known to be good succeeds after each
failure is the culprit: it is given up, without a reward, and the rest goes on. When the known good
fails too, that error is raised: the stage is retried later and nothing is blamed. A runner that is
killed leaves no reason, so nobody is ever blamed for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from eurekaflow.models.errors import EurekaError
from eurekaflow.tasks.session import Session

T = TypeVar("T")
Canary = Callable[[], object]


class StepStuck(EurekaError, RuntimeError):
    """Every attempt of a step was given up; the next resume goes on without them."""


@dataclass(frozen=True)
class Culprit:
    """Work that was given up."""

    reason: str


def tried(work: Callable[[], T], canary: Canary) -> T | Culprit:
    """The work's result, or what is wrong with it. Raises the canary's error, and EurekaError.

    An EurekaError is about the archive or the user's settings, never about a piece of work.
    """
    seen: set[type[Exception]] = set()
    while True:
        try:
            return work()
        except EurekaError:
            raise
        except Exception as error:
            kind, reason = type(error), f"{type(error).__name__}: {error}"
        canary()
        if kind in seen:
            return Culprit(reason)
        seen.add(kind)


def give_up(s: Session, step: int, culprits: Mapping[int, str], *, alone: bool) -> None:
    """Mark attempts (id -> reason) as lost. `alone`: no attempt of the step went well.

    Then the fault is more likely ours: the first time the step raises StepStuck instead.
    """
    if not culprits:
        return
    reason = next(iter(culprits.values()))
    if alone and s.archive.note_failure(s.hold, step, reason) < 2:
        raise StepStuck(
            f"step {step}: none of {len(culprits)} attempts could be worked on ({reason})",
            f"eureka doctor; eureka resume {s.run.uuid} tries again and then goes on without them",
        )
    for why in sorted(set(culprits.values())):
        ids = [attempt_id for attempt_id, other in culprits.items() if other == why]
        s.archive.abandon(s.hold, step, ids, why)
    text = f"{len(culprits)} attempts given up: {reason}"
    s.notify("note", step=step, metrics={"text": text})
