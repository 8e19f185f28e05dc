"""Seconds from 512 responses without a verdict to 512 verdicts in the archive.

    python -m tests.benchmarks.verify_step [--groups 8] [--group-size 64] [--sandbox docker]

Real sandbox, judges and Postgres (one of its own, in a throwaway folder); only the policy is
scripted, and its programs are trivial: they shift the parent's heights. Starting the sandbox is
part of it. Target: under 10 s on two cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from eurekaflow.models import postgres, schema
from eurekaflow.models.archive import Archive
from eurekaflow.models.scripted import ScriptedPolicy
from eurekaflow.tasks import session
from eurekaflow.tasks.archive import archive
from eurekaflow.tasks.plan import plan
from eurekaflow.tasks.sample import sample
from eurekaflow.tasks.seed import seed
from eurekaflow.tasks.verify import verify
from tests.scripted_run import add_run, place

TARGET_S = 10.0
TRIVIAL = [
    f"```python\nimport numpy as np\n\ndef run():\n    return np.roll(initial_h_values, {i})\n```"
    for i in range(64)
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--sandbox", default="process")
    given = parser.parse_args()
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="eurekaflow-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with postgres.hold(home):
            url = postgres.ensure(home).url
            schema.bootstrap(url)
            size = given.group_size
            run = add_run(
                url, groups=given.groups, group_size=size, wave=size, workers=workers,
                sandbox=given.sandbox, opening=False,
            )  # fmt: skip
            scripted = replace(
                place(url, home),
                make_policy=lambda config, _: ScriptedPolicy(TRIVIAL, seed=config.seed),
            )
            session.configure(scripted)
            name = str(run.uuid)
            seed.fn(name)
            for prepared in (plan.fn, sample.fn):
                prepared(name, 0)
            started = time.monotonic()
            verdicts = verify.fn(name, 0)
            verified = time.monotonic()
            archive.fn(name, 0)
            ended = time.monotonic()
            session.close(name, "finished")
            reading = Archive(url)
            _, outcomes = reading.query("select distinct outcome from attempts where step >= 0")
            reading.close()
            assert outcomes == [("valid",)], outcomes
        postgres.stop(home)
    met = "met" if ended - started < TARGET_S else "missed"
    print(f"{verdicts} candidates on {workers} cores, {given.sandbox}: verified and stored in "
          f"{verified - started:.2f} s, settled in {ended - verified:.2f} s (target: under "
          f"{TARGET_S:g} s in all, {met}; load {os.getloadavg()[0]:.1f})")  # fmt: skip


if __name__ == "__main__":
    main()
