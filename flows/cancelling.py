"""Cancelling in Prefect: the run stops after its step, its state saved, and can be resumed."""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run


class Cancelled(KeyboardInterrupt):
    """The flow run was cancelled in Prefect: unwinds like Ctrl-C, so the run is paused."""


def stop_when_cancelled() -> None:
    """Raise Cancelled once somebody cancelled the flow run that this is part of."""
    number = flow_run.get_id()
    if number is None:  # not inside a flow run
        return
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(number)).state
    except Exception:  # without Prefect's server nobody can have cancelled anything
        return
    if state is not None and (state.is_cancelling() or state.is_cancelled()):
        raise Cancelled
