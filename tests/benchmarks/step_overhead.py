"""Share of a step's wall time outside sampling, verification and update, of archived runs.

Usage: python tests/benchmarks/step_overhead.py [--runs 5]. Reads the newest runs of the archive:
from the moment the first step was planned to the moment the last was committed, so Prefect, the
database and the checkpoints all count. Resumed runs would count their pause; do not use them.
"""

from __future__ import annotations

import argparse

from eurekaflow.flows.configure import surroundings
from eurekaflow.flows.connection import open_archive
from eurekaflow.models import schema
from eurekaflow.models.archive import Archive

QUESTION = """
    select left(r.uuid::text, 8) as run, r.problem, count(*) as steps,
        extract(epoch from max(s.committed_at) - min(s.planned_at))
            + sum((s.seconds->>'plan')::float8) filter (where s.step = 0) as wall,
        sum((s.seconds->>'sample')::float8 + (s.seconds->>'verify')::float8
            + coalesce((s.seconds->>'update')::float8, 0)) as work
    from archive.steps s
    join (select q.id, q.uuid, p.name as problem from archive.runs q
          join archive.problems p on p.id = q.problem_id) r on r.id = s.run_id
    where s.committed_at is not null
    group by r.id, r.uuid, r.problem order by r.id desc limit %s"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    wanted = parser.parse_args()
    with open_archive(surroundings()) as url:
        schema.bootstrap(url)  # the archive may have no run yet, or not exist
        archive = Archive(url)
        _, rows = archive.query(QUESTION, params=(wanted.runs,), as_reader=False)
        archive.close()
    print(f"{'run':>9} {'problem':>20} {'steps':>6} {'wall s':>8} {'outside':>8}")
    for run, problem, steps, wall, work in rows:
        share = 1 - work / float(wall)
        print(f"{run:>9} {problem:>20} {steps:>6} {float(wall):>8.1f} {100 * share:>7.1f}%")


if __name__ == "__main__":
    main()
