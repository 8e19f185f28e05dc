"""How long choosing the parents of a step takes at 1e4, 1e5 and 1e6 attempts.

    python -m tests.benchmarks.puct_choice [--url URL] [--attempts 10000 100000]

Without a URL the embedded server is started in a temporary folder. Attempts are generated in SQL:
groups of 64, a third of them valid, ancestor paths up to 20 long, 1000 of them eligible. Targets:
10, 20 and 50 ms for `nodes` + scores + selection of 8.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from eurekaflow.models import postgres, schema
from eurekaflow.models.archive import Archive, SeedRow
from eurekaflow.models.puct import puct_scores, select_parents

TARGETS_MS = {10_000: 10.0, 100_000: 20.0, 1_000_000: 50.0}
FILL = """
    insert into archive.attempts (run_id, step, group_index, attempt_index, seq, parent_id, path,
        state, outcome, value, reward, eligible, visits_expansion, best_child)
    select %(run)s, i / 512, (i / 64) %% 8, i %% 64, i + 8, p.id, p.path, 'settled',
        case when i %% 3 = 0 then 'valid' else 'raised' end,
        case when i %% 3 = 0 then random() end, 0, i %% 3 = 0 and i >= %(count)s - 2976,
        case when i %% 3 = 0 then (random() * 3)::int else 0 end, null
    from generate_series(0, %(count)s - 1) i
    join (select array_agg(id order by seq) as ids from archive.attempts where run_id = %(run)s) s
        on true
    cross join lateral (
        select s.ids[1 + i %% 8] as id,
            array[s.ids[1 + i %% 8]] || array(select (1e9 + i / 7 + k)::bigint
                from generate_series(1, i %% 20) k) as path
    ) p"""
TOTAL = "update archive.runs set total_expansions = %s / 64 where id = %s"


def main() -> None:
    """Fill, measure and print one line a size."""
    arguments = _arguments()
    with _server(arguments.url) as url:
        schema.bootstrap(url)
        for count in arguments.attempts:
            best, median = _measure(url, count)
            target = TARGETS_MS.get(count)
            print(
                f"{count:>9,} attempts: best {best:.1f}, median {median:.1f} ms, target {target}"
            )


def _measure(url: str, count: int, *, rounds: int = 25) -> tuple[float, float]:
    """Best and median milliseconds of a choice in a run of `count` attempts."""
    archive = Archive(url)
    run_id = _fill(archive, count)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        table = archive.nodes(run_id)
        scores = puct_scores(
            table.values, table.visits, table.best_child, table.is_seed, total=table.total
        )
        picked = select_parents(scores, table.values, table.ancestors, 8)
        seconds.append(time.perf_counter() - start)
    assert len(table.ids) == 1000
    assert len(picked) == 8
    archive.close()
    return 1000 * min(seconds), 1000 * statistics.median(seconds)


def _fill(archive: Archive, count: int) -> int:
    archive.add_problem("benchmark", "1", "max", "score")
    run = archive.add_run(
        problem="benchmark", config={}, seed=0, versions={}, fingerprint={}, hardware={}
    )
    with archive.hold(run.id, owner="the benchmark") as hold:
        archive.add_seeds(hold, [SeedRow(slot=slot, value=0.0) for slot in range(8)])
    with psycopg.connect(archive.url, autocommit=True) as connection:
        connection.execute(FILL, {"run": run.id, "count": count})
        connection.execute(TOTAL, (count, run.id))
        connection.execute("vacuum analyze archive.attempts")
    return run.id


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    if url:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="eurekaflow-benchmark-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with postgres.hold(home):
            yield postgres.ensure(home).url
        postgres.stop(home, force=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an archive to fill; never one that matters")
    parser.add_argument("--attempts", type=int, nargs="+", default=list(TARGETS_MS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
