"""The judge and the sandbox of a command, with the server that the problem needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eurekaflow.models.settings import RunConfig
    from eurekaflow.verifiers.judge import Judge
    from eurekaflow.verifiers.problem import Problem
    from eurekaflow.verifiers.sandbox import Sandbox


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


@contextmanager
def sandboxed(problem: Problem, config: RunConfig, workers: int = 1) -> Iterator[Sandbox]:
    """The sandbox that a configuration names, with its layers, for programs of the problem."""
    from eurekaflow.tasks.sandboxes import open_sandbox

    limits = problem.limits(budget_s=config.budget_s)
    memory = max(config.memory_mb << 20, problem.memory()[0])
    limits = replace(limits, memory_bytes=memory)
    config = config.model_copy(update={"workers": workers})
    with closing(open_sandbox(config, limits, timed=problem.timed)) as sandbox:
        yield sandbox


def configured(spec: str) -> RunConfig:
    """The configuration of a command that has no run: the file's and the environment's."""
    from eurekaflow.flows.configure import resolve

    return resolve(spec).config
