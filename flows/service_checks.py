"""What `eureka doctor` checks of the services: Postgres, schema, Prefect, sandbox, weights."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from eurekaflow.flows.findings import Check

if TYPE_CHECKING:
    from eurekaflow.flows.configure import Surroundings
    from eurekaflow.verifiers.docker_about import About


def database(here: Surroundings) -> Check:
    """The archive's server: the user's own answers, or the embedded one can be started."""
    from eurekaflow.models import postgres
    from eurekaflow.models.errors import ArchiveUnavailable
    from eurekaflow.models.postgres_binaries import find_binaries
    from eurekaflow.models.schema import current

    if here.database_url is not None:
        try:
            current(here.database_url)
        except ArchiveUnavailable as error:
            fix = "start that server, or correct EUREKA_DATABASE_URL"
            return Check("database", "fail", error.message, fix)
        return Check("database", "pass", "your server of EUREKA_DATABASE_URL answers")
    programs = find_binaries()
    found = postgres.status(here.home)
    if found.state == "absent":
        where = f"Postgres {programs.version} is made in {here.home} at the first run"
        return Check("database", "pass", where)
    return Check("database", "pass", f"Postgres {programs.version}, {found.state}, {found.data}")


def schema(here: Surroundings) -> Check:
    """The archive's schema is the one this program works with."""
    from eurekaflow.models import postgres
    from eurekaflow.models.schema import check, current

    url = here.database_url
    if url is None:
        if postgres.status(here.home).state != "running":
            return Check("schema", "pass", "not looked at: the server is not running")
        url = postgres.url(here.home)
    found = current(url)
    if found is None:
        return Check("schema", "pass", "made at the first run")
    check(url)
    return Check("schema", "pass", f"revision {found}")


def prefect(here: Surroundings) -> Check:
    """Prefect is installed, and what its local server is doing."""
    version = importlib.metadata.version("prefect")
    if here.prefect_api_url is not None:
        return Check("prefect", "pass", f"{version}, your server of PREFECT_API_URL")
    from eurekaflow.flows.services import prefect_status

    found = prefect_status(here.home)
    if found.running:
        return Check("prefect", "pass", f"{version}, {found.api_url} ({found.database})")
    return Check("prefect", "pass", f"{version}, started when a run needs it")


def sandbox(here: Surroundings) -> Check:
    """Candidates can be confined here; each layer proven on a canary."""
    from eurekaflow.verifiers.process import FIX, probe
    from eurekaflow.verifiers.sandbox import SandboxUnavailable

    try:
        layers = probe()
    except SandboxUnavailable as error:
        return Check("sandbox", "fail", str(error), FIX)
    return Check("sandbox", "pass", ", ".join(layers))


def containers(here: Surroundings) -> Check:
    """An engine for `sandbox = docker`; only looked at, since it is a choice."""
    from eurekaflow.verifiers.docker_engine import Engine
    from eurekaflow.verifiers.sandbox import SandboxUnavailable

    try:
        engine = Engine()
    except SandboxUnavailable:
        return Check("containers", "pass", "no engine answers; needed for sandbox=docker only")
    engine.close()
    return of_engine(engine.about)


def of_engine(about: About) -> Check:
    """An engine that answers: what it cannot do, with what mends it."""
    if not about.shortcomings:
        return Check("containers", "pass", str(about))
    found, fixes = zip(*about.shortcomings, strict=True)
    return Check("containers", "warn", f"{about}, {'; '.join(found)}", "; ".join(fixes))


def weights(here: Surroundings) -> Check:
    """The bundled policy is on this machine."""
    from eurekaflow.models.errors import PrerequisiteMissing
    from eurekaflow.models.weights import resolve_model

    cache = here.home / "models"
    try:
        found = resolve_model("bundled", cache, offline=True)
    except PrerequisiteMissing:
        message = "the bundled policy is fetched at the first run (0.5 GB, 1.5 GB once converted)"
        return Check("weights", "warn", message, "eureka run erdos, or --model PATH")
    return Check("weights", "pass", str(found))


def model_memory(here: Surroundings) -> Check:
    """The model of an automatic run fits this machine."""
    from eurekaflow.flows.configure import resolve
    from eurekaflow.flows.memory_forecast import of_run

    return of_run(resolve("erdos").config, here)


SERVICES = (database, schema, prefect, sandbox, containers, weights, model_memory)
