"""Seed a run: its starting points become the roots of the tree."""

from __future__ import annotations

import math

import numpy as np
from prefect.runtime import flow_run

from eurekaflow.models.errors import UsageError
from eurekaflow.models.rows import SeedRow
from eurekaflow.tasks import session
from eurekaflow.tasks.metering import metered
from eurekaflow.tasks.prune import prune
from eurekaflow.tasks.retry import stage
from eurekaflow.tasks.session import Session
from eurekaflow.verifiers.gpu_problem import Kernel
from eurekaflow.verifiers.problem import Seed

SEED_STEP = -1  # of the seeds' rows everywhere
SEED_STREAM = 1  # name of the random stream derived from the run's seed


@stage("seed")
def seed(run_id: str, step: int = -1) -> None:
    """Insert the seeds once; refuses a seed without a finite value."""
    s = session.of(run_id)
    if (flow := flow_run.get_id()) is not None:
        s.archive.set_flow_run(s.hold, flow)
    seeded = s.archive.totals(s.run.id).seed is not None
    if s.run.forked_from is None and not seeded:  # a fork has those of the run it branched from
        s.archive.add_seeds(s.hold, rows(s))
    prune(s)  # what a crash left


def rows(s: Session) -> list[SeedRow]:
    rng = np.random.default_rng([s.config.seed, SEED_STREAM])
    seeds = s.problem.seeds(rng, s.config.groups, brief=s.config.brief)
    for slot, start in enumerate(seeds):
        if not math.isfinite(start.value):
            raise UsageError(
                f"seed {slot} of {s.problem.name} has the value {start.value}",
                "give every seed a finite value",
            )
    # what is measured on a server or a GPU is this machine's, so seeds are measured here
    timed: dict[str, float] = {}
    if s.problem.service or isinstance(s.problem, Kernel):
        with metered(s, SEED_STEP, "verify"):
            timed = {x.program: measured(s, x) for x in {x.program: x for x in seeds}.values()}
    return [
        SeedRow(
            slot=slot,
            draw=0,
            value=timed.get(start.program, start.value),
            program=start.program,
            construction=start.construction,
        )
        for slot, start in enumerate(seeds)
    ]


def measured(s: Session, start: Seed) -> float:
    """The value of a seed's program as it is verified; its own where that finds none."""
    if isinstance(s.problem, Kernel):
        verdict = s.problem.try_out(start.program).verdict if start.program else None
    else:
        verdict = s.judge.verdict_of_text(s.config.problem, start.program)
    return start.value if verdict is None or verdict.value is None else verdict.value
