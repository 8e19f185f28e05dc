"""The judge of a command, with the server that the problem needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eurekaflow.verifiers.judge import Judge
    from eurekaflow.verifiers.problem import Problem


@contextmanager
def judging(problem: Problem, workers: int = 1) -> Iterator[Judge]:
    """A judge for the problem; its server, if it needs one, is up meanwhile."""
    from eurekaflow.verifiers.judge import Judge

    if not problem.service:
        _, memory = problem.memory()
        with Judge(workers, wall_s=problem.verification_s, memory_bytes=memory) as judge:
            yield judge
        return
    from eurekaflow.flows.configure import surroundings
    from eurekaflow.models.throwaway import throwaway

    with throwaway(surroundings().home) as url, Judge(workers, service=url) as judge:
        yield judge
