"""The sandbox that a run's configuration names, refused when it is weaker than asked for."""

from __future__ import annotations

from eurekaflow.models.errors import PrerequisiteMissing
from eurekaflow.models.settings import RunConfig
from eurekaflow.verifiers.allotment import AllottedSandbox, Cores
from eurekaflow.verifiers.sandbox import Limits, Sandbox, SandboxUnavailable


def open_sandbox(config: RunConfig, limits: Limits) -> Sandbox:
    """Start it; `limits` are those that its candidates will have. Raises PrerequisiteMissing."""
    required = frozenset(filter(None, config.sandbox_layers.replace(" ", "").split(",")))
    try:
        inner = _backend(config, limits, required - {"exclusive-core"})
    except SandboxUnavailable as problem:
        fix = "eureka doctor says what is missing; docs/security.md says what each layer needs"
        raise PrerequisiteMissing(str(problem), fix) from problem
    if config.exclusive_cores or "exclusive-core" in required:
        return AllottedSandbox(inner, Cores())
    return inner


def _backend(config: RunConfig, limits: Limits, required: frozenset[str]) -> Sandbox:
    if config.sandbox == "docker":
        from eurekaflow.verifiers.docker_sandbox import DockerSandbox

        return DockerSandbox(
            config.workers, limits=limits, runtime=config.sandbox_runtime, required=required
        )
    from eurekaflow.verifiers.process import ProcessSandbox

    return ProcessSandbox(config.workers, required=required)
