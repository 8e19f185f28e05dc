"""`eureka run` on each problem in one process, with one copy of the bundled policy's weights.

    EUREKA_HOME=HOME python -m tests.problem_runs OUT PROBLEM...

Each run is the command itself, three tiny steps long, with Postgres, Prefect and the sandbox. Only
the policy is kept from one run to the next. What the archive holds of the runs goes to the file
OUT as JSON, one row per run.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from eurekaflow.flows import cli
from eurekaflow.flows.services import open_services
from eurekaflow.models.archive import Archive
from eurekaflow.models.local import LocalPolicy
from eurekaflow.models.policy import Policy
from eurekaflow.models.settings import RunConfig
from eurekaflow.tasks import session

SIZES = {
    "wave": 4, "micro_batch": 4, "max_new_tokens": 6, "budget_s": 0.5, "cases": 1, "window": 2048,
    "kl": 0, "threads": 1, "workers": 1,  # other tests run beside this
}  # fmt: skip
FOUND = """
    select r.problem, r.state, count(*) filter (where a.outcome is not null) as judged,
        count(*) filter (where a.outcome = 'valid') as valid,
        array_agg(distinct a.outcome) as outcomes,
        (select count(*) from steps s where s.run = r.run and s.stage = 'committed') as committed
    from runs r join attempts a on a.run = r.run and a.step >= 0
    group by r.run, r.problem, r.state, r.created_at order by r.created_at"""


class Shared(LocalPolicy):
    """A policy that outlives a run."""

    def close(self) -> None:
        pass


def keep_the_policy() -> None:
    """Every run of this process gets the policy that the first one loaded."""
    load, kept = session.local_policy, []

    def made(config: RunConfig, place: session.Place) -> Policy:
        if not kept:
            policy = load(config, place)
            policy.__class__ = Shared
            kept.append(policy)
        return kept[0]

    session.local_policy = made


def run(problem: str) -> dict[str, Any]:
    """One run: how the command ended, and how long it took."""
    started = time.monotonic()
    settings = [part for name, value in SIZES.items() for part in ("--set", f"{name}={value}")]
    code = cli.main(
        ["run", problem, "--preset", "small-cpu", "--steps", "3", "--groups", "1",
         "--group-size", "4", "--seed", "3", *settings, "--json"]
    )  # fmt: skip
    return {"code": code, "seconds": time.monotonic() - started}


def main(out: str, *problems: str) -> int:
    """Run each problem and write what the archive then holds."""
    keep_the_policy()
    home = Path(os.environ["EUREKA_HOME"])
    with open_services(home, prefect=True) as opened:  # up between the runs too
        ended = {problem: run(problem) for problem in problems}
        archive = Archive(opened.database_url)
        try:
            columns, rows = archive.query(FOUND)
        finally:
            archive.close()
    told = [dict(zip(columns, row, strict=True)) for row in rows]
    told = [{**row, **ended[row["problem"]]} for row in told]
    Path(out).write_text(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
