"""The sandbox that a run's configuration names, refused when it is weaker than asked for."""

from __future__ import annotations

from eurekaflow.models.errors import PrerequisiteMissing
from eurekaflow.models.settings import RunConfig
from eurekaflow.verifiers.allotment import LAYER, AllottedSandbox, Cores
from eurekaflow.verifiers.sandbox import Limits, Sandbox, SandboxUnavailable


def open_sandbox(config: RunConfig, limits: Limits, *, timed: bool = False) -> Sandbox:
    """Start it; `limits` are those that its candidates will have, `timed` as of their problem.

    Where each has a core to itself there are never more workers than cores. Raises
    PrerequisiteMissing.
    """
    required = frozenset(filter(None, config.sandbox_layers.replace(" ", "").split(",")))
    wanted = timed if config.exclusive_cores is None else config.exclusive_cores
    cores = Cores() if wanted or LAYER in required else None
    workers = config.workers if cores is None else min(config.workers, len(cores.cpus))
    try:
        inner = _backend(config, limits, required - {LAYER}, workers=workers)
    except SandboxUnavailable as problem:
        fix = "eureka doctor says what is missing; docs/security.md says what each layer needs"
        raise PrerequisiteMissing(str(problem), fix) from problem
    return inner if cores is None else AllottedSandbox(inner, cores)


def _backend(
    config: RunConfig, limits: Limits, required: frozenset[str], *, workers: int
) -> Sandbox:
    if config.sandbox == "docker":
        from eurekaflow.verifiers.docker_sandbox import DockerSandbox

        return DockerSandbox(
            workers, limits=limits, runtime=config.sandbox_runtime, required=required
        )
    from eurekaflow.verifiers.process import ProcessSandbox

    return ProcessSandbox(workers, required=required)
