"""Prefect's server or database gone while a run works: recognised, and brought back."""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import UUID

from eurekaflow.flows.configure import surroundings
from eurekaflow.flows.prefect_server import (
    ensure_prefect,
    is_local,
    prefect_environment,
    prefect_status,
    stop_prefect,
)
from eurekaflow.models import postgres
from eurekaflow.models.errors import EurekaError

PATIENCE_S = 60.0  # for a server of the user's own, which is not ours to start


def lost(error: BaseException) -> bool:
    """Whether an error is Prefect's own: no answer, a server error, records that are gone."""
    import httpx
    from prefect.exceptions import PrefectException

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, EurekaError):
            return False
        if isinstance(seen, httpx.HTTPError | PrefectException):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def is_cancelled(flow_run: str) -> bool:
    """Whether a flow run was cancelled or is about to be; False when Prefect knows none such.

    Raises ConnectionError when the server does not answer, at once and without retries.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectException
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True) as client,
        ):
            state = client.read_flow_run(UUID(flow_run)).state
    except httpx.TransportError as error:
        raise ConnectionError(str(error)) from error
    except (httpx.HTTPError, PrefectException):
        return False
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def revive(home: Path) -> None:
    """Have an answering Prefect server with a database again; a user's own is waited for."""
    here = surroundings()
    own = here.prefect_api_url
    if own is not None and not is_local(home, own):
        time.sleep(PATIENCE_S)
        return
    records = None
    if here.database_url is None:
        records = postgres.ensure(home).url_of("prefect")  # made anew when it was dropped
    if not prefect_status(home).running:
        stop_prefect(home)  # a server without its database lives and is of no use
    url = ensure_prefect(home, database_url=records)
    os.environ.update(prefect_environment(home, url, environment=os.environ))
