"""After some hundred candidates, hostile ones among them, nothing of them is left."""

from __future__ import annotations

import pytest

from eurekaflow.verifiers.docker_engine import Engine
from eurekaflow.verifiers.docker_sandbox import DockerSandbox
from eurekaflow.verifiers.process import LEVELS, ProcessSandbox
from eurekaflow.verifiers.sandbox import SandboxUnavailable
from tests.soak import soak

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("level", LEVELS)
def test_processes_leave_nothing(level: str) -> None:
    try:
        backend = ProcessSandbox(2, levels=(level,))
    except SandboxUnavailable as reason:
        pytest.skip(str(reason))
    with backend:
        assert soak(backend, 400, engine=None) == []
        assert backend.anomalies == 0


def test_containers_leave_nothing(container_engine: str | None) -> None:
    engine = Engine(container_engine)
    try:
        with DockerSandbox(2, base_url=container_engine) as backend:
            assert soak(backend, 100, engine=engine) == []
            assert backend.anomalies == 0
        listed = engine.api.containers(all=True, filters={"label": "eurekaflow.sandbox"})
        assert listed == []
    finally:
        engine.close()
