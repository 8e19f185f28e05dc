"""Judging answers while sampling goes on, where the policy leaves the CPU cores free (a GPU).

Helps only: what it stores the verify stage finds done, and whatever goes wrong here is left to
that stage, which retries, tells and gives up. So a run that dies in between continues as ever.
Timed kernels need an idle device and a policy on the CPU needs the cores: there the stages
alternate. What is spent here stands in the sample stage's bill.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from eurekaflow.models.rows import VerdictRow
from eurekaflow.tasks.session import Session
from eurekaflow.tasks.verify import batches
from eurekaflow.verifiers.gpu_problem import Kernel

LOOK_EVERY_S = 0.2  # for answers that have been stored


@contextmanager
def judging(s: Session, step: int) -> Iterator[None]:
    """Judge the step's stored answers in the background for as long as the context lasts.

    What is under way at the end is finished and stored.
    """
    if not s.policy.concurrent or isinstance(s.problem, Kernel):
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_judge, args=(s, step, stop), name="overlap")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _judge(s: Session, step: int, stop: threading.Event) -> None:
    """Until stopped, or until anything fails: then the verify stage has all the rest."""
    left: set[int] = set()  # what breaks its judges is the verify stage's to set aside
    try:
        while not stop.is_set():
            pending = [p for p in s.archive.unverified(s.run.id, step) if p.attempt_id not in left]
            for batch in batches(s, step, pending, stopped=stop.is_set) if pending else ():
                rows = [one for one in batch if isinstance(one, VerdictRow)]
                left |= {one[0] for one in batch if not isinstance(one, VerdictRow)}
                s.archive.store_verdicts(s.hold, step, rows)
            stop.wait(0.0 if pending else LOOK_EVERY_S)
    except Exception as error:
        s.notify("note", step=step, metrics={"text": f"judging waits for its stage: {error}"})
