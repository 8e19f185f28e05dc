"""How a stage becomes a Prefect task: which faults are retried, how often, and after what wait."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from eurekaflow.models.device_faults import device_fault
from eurekaflow.models.errors import (
    ArchiveUnavailable,
    DeviceUnavailable,
    EurekaError,
    FencedOut,
    interruption,
)
from eurekaflow.tasks import session
from eurekaflow.tasks.session import Session
from eurekaflow.verifiers.judge import JudgeUnavailable
from eurekaflow.verifiers.sandbox import SandboxUnavailable

P = ParamSpec("P")
R = TypeVar("R")

INFRASTRUCTURE = (
    ArchiveUnavailable,
    SandboxUnavailable,
    JudgeUnavailable,
    DeviceUnavailable,
)
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
    """Decorator: a stage as a task that keeps nothing in Prefect but its name and times.

    Faults of the device, its memory or the disk are raised as DeviceUnavailable.
    """
    made = task(
        name=name,
        task_run_name=f"{name} {{step}}",
        retries=len(RETRY_DELAYS_S),
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=transient,
        persist_result=False,
        cache_policy=NO_CACHE,
    )
    return lambda function: made(told(function))


def told(function: Callable[P, R]) -> Callable[P, R]:
    """The stage with the machine's faults by their name; its policy is opened anew after one.

    A signal stays one, whatever failed while it unwound: it is not to be retried.
    An owner that was taken over raises FencedOut whatever it met: the next one moves its files.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if (signal := interruption(error, None)) is not None:
                raise signal from None
            if isinstance(error, EurekaError):
                raise
            opened, fault = session.opened(str(args[0])), device_fault(error)
            if opened is not None and (lost := _lost(opened)) is not None:
                raise lost from error
            if fault is None:
                raise
            if opened is not None:
                with contextlib.suppress(Exception):  # a broken device may not even close
                    opened.drop("policy")
            raise fault from error

    return call


def _lost(opened: Session) -> FencedOut | None:
    """That the run has another owner by now; None also when nobody can say."""
    try:
        opened.confirm()
    except FencedOut as lost:
        return lost
    except Exception:
        return None
    return None
