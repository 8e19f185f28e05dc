"""The container sandbox fulfils the contract on a real engine, and leaves nothing with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eurekaflow.verifiers.contract import SandboxContract
from eurekaflow.verifiers.docker_sandbox import DockerSandbox
from tests import docker_engine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str | None]:
    with docker_engine.engine() as found:
        yield found


class TestDocker(SandboxContract):
    @pytest.fixture(scope="class")
    def sandbox(self, address: str | None) -> Iterator[DockerSandbox]:
        with DockerSandbox(2, base_url=address) as backend:
            yield backend
        assert backend.anomalies == 0
