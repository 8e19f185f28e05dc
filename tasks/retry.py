"""How a stage becomes a Prefect task: which faults are retried, how often, and after what wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from eurekaflow.models.errors import ArchiveUnavailable
from eurekaflow.verifiers.judge import JudgeUnavailable
from eurekaflow.verifiers.sandbox import SandboxUnavailable

P = ParamSpec("P")
R = TypeVar("R")

INFRASTRUCTURE = (ArchiveUnavailable, SandboxUnavailable, JudgeUnavailable)
RETRY_DELAYS_S = [1.0, 5.0, 20.0]


def transient(_task: Any, _run: Any, state: Any) -> bool:
    """Only infrastructure is retried: a candidate's failure is data and never raises."""
    try:
        state.result()
    except INFRASTRUCTURE:
        return True
    except BaseException:
        return False
    return False


def stage(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Decorator: a stage as a task that keeps nothing in Prefect but its name and times."""
    return task(
        name=name,
        task_run_name=f"{name} {{step}}",
        retries=len(RETRY_DELAYS_S),
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=transient,
        persist_result=False,
        cache_policy=NO_CACHE,
    )
