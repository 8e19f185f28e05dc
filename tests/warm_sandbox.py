"""One sandbox for the runs that tests work on in their own process: opening it costs seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eurekaflow.models.settings import RunConfig
from eurekaflow.tasks import session
from eurekaflow.tasks.sandboxes import open_sandbox
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Limits, Sandbox

WORKERS = RunConfig.model_fields["workers"].default
OPENED_BY = ("sandbox", "sandbox_layers", "exclusive_cores", "workers")


class Kept(ProcessSandbox):
    """A sandbox that outlives the run it is opened for."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def kept_sandbox() -> Iterator[Kept]:
    made = Kept(WORKERS)
    yield made
    ProcessSandbox.close(made)


@pytest.fixture
def warm_sandbox(kept_sandbox: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that leave the sandbox's settings at their defaults share one."""

    def opened(config: RunConfig, limits: Limits, *, timed: bool = False) -> Sandbox:
        usual = all(
            getattr(config, name) == RunConfig.model_fields[name].default for name in OPENED_BY
        )
        return kept_sandbox if usual and not timed else open_sandbox(config, limits, timed=timed)

    monkeypatch.setattr(session, "open_sandbox", opened)
