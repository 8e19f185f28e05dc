"""Fuzzing the verifiers of denoising and sql-query: nonsense in, a refusal or the truth out.

    .venv/bin/python -m tests.fuzz_cells [COUNT] [SEED]

Matrices are judged on a small data set and compared with a computation that shares no code with
the verifier; queries run in throwaway databases, and only those that are the reference in other
words may be accepted.
"""

from __future__ import annotations

import json
import math
import random
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from eurekaflow.verifiers.answers import array, parse
from eurekaflow.verifiers.denoising import Denoising
from eurekaflow.verifiers.denoising_data import DataSet
from eurekaflow.verifiers.denoising_metrics import filtered
from eurekaflow.verifiers.problem import InvalidAnswer
from eurekaflow.verifiers.sql_query import SqlQuery
from eurekaflow.verifiers.stub import ARRAY
from tests.fuzz import ODD_NUMBERS, SLOWEST_S, Tally, mutated, nonsense

CELLS, GENES = 12, 9


class SmallCells(Denoising):
    """The problem on a dozen simulated cells."""

    data = DataSet(  # type: ignore[assignment]
        name="small",
        counts=filtered(np.random.default_rng(5).poisson(4.0, (CELLS, GENES))),
    )


def fuzz_denoising(count: int, seed: int) -> Tally:
    """Put `count` matrices to the denoising verifier, in every mode in turn."""
    rng, problem, tally = random.Random(f"denoising {seed}"), SmallCells(), Tally()
    problem.prepare()
    for turn in range(count):
        data, mode = _matrix(rng, problem), problem.modes[turn % 3]
        started = time.process_time()
        try:
            answer = array(data) if data.startswith(ARRAY) else parse(data)
            judgement = problem.measure(answer, mode=mode)
        except InvalidAnswer:
            tally.refused += 1
        except Exception as error:
            tally.faults.append(f"{type(error).__name__}: {error} on {data[:200]!r}")
        else:
            tally.accepted += 1
            expected = _by_hand(problem, data)
            if expected is None or not _close(judgement.metrics["official"], expected):
                tally.faults.append(f"{judgement.metrics} is not {expected}: {data[:200]!r}")
        if time.process_time() - started > SLOWEST_S:
            tally.faults.append(f"slow on {data[:200]!r}")
    return tally


def _close(found: float, expected: float) -> bool:
    return abs(found - expected) <= 1e-7 * max(1.0, abs(expected))


def _matrix(rng: random.Random, problem: SmallCells) -> bytes:
    cells, genes = problem.benchmark.train.shape
    kind = rng.random()
    if kind < 0.05:
        return rng.randbytes(rng.randrange(40))
    if kind < 0.1:
        return nonsense(rng, 3).encode()
    if kind < 0.2:
        shape = struct.pack("<B2Q", rng.choice((0, 1, 2, 3, 255)), rng.choice((cells, 2**61)), 8)
        return ARRAY + (shape + rng.randbytes(rng.randrange(80)))[rng.randrange(3) :]
    scale = rng.choice((1.0, 1.0, 1.0, 1e-6, 1e-320, 3.0, 50.0, 1e9))
    values = (problem.benchmark.train + np.random.default_rng(rng.randrange(9)).random(
        (cells, genes))) * scale  # fmt: skip
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        at = rng.randrange(cells), rng.randrange(genes)
        values[at] = rng.choice((0.0, -1e-12, 1e-300, math.nan, math.inf, 1e4, -0.0))
    if rng.random() < 0.1:
        values[rng.randrange(cells)] = 0.0
    if rng.random() < 0.5:
        return ARRAY + struct.pack("<B2Q", 2, cells, genes) + values.astype("<f8").tobytes()
    text = json.dumps(values.tolist())
    for _ in range(rng.choice((0, 1, 1, 2))):
        text = mutated(rng, text)
    return text.encode("utf-8", errors="surrogatepass")


def _by_hand(problem: SmallCells, data: bytes) -> float | None:
    """The official score of bytes that are a legal matrix, entry by entry; None for others."""
    train, test = problem.benchmark.train.tolist(), problem.benchmark.test.tolist()
    rows: Any
    if data.startswith(ARRAY):
        flat = struct.unpack(f"<{len(train) * len(train[0])}d", data[len(ARRAY) + 17 :])
        rows = [flat[i : i + len(train[0])] for i in range(0, len(flat), len(train[0]))]
    else:
        rows = json.loads(data)
    if [len(row) for row in rows] != [len(row) for row in train]:
        return None
    if not all(type(x) in (int, float) and 0 <= x < math.inf for row in rows for x in row):
        return None
    total = sum(map(sum, train))
    none, perfect, found = (_losses(test, m, total) for m in (train, test, rows))
    parts = [(n - f) / (n - p) for n, p, f in zip(none, perfect, found, strict=True)]
    return sum(parts) / 2


def _losses(test: Any, denoised: Any, total: float) -> tuple[float, float]:
    scale = sum(map(sum, test)) / total
    mse = poisson = 0.0
    for t, d in zip(test, denoised, strict=True):
        in_t, in_d = sum(t) or 1.0, math.fsum(d) or 1.0
        for x, y in zip(t, d, strict=True):
            mse += (math.log1p(1e4 * x / in_t) - math.log1p(1e4 * (y / in_d))) ** 2
            poisson += x - y * scale * math.log(x + 1e-6)
    return mse, poisson


class QuickQuery(SqlQuery):
    """The problem on small data, so that a fuzzed query takes milliseconds."""

    size = 20
    data = ((21, 20), (22, 7))
    rounds = {"training": 1, "strict": 1}  # noqa: RUF012


SAME = (
    SqlQuery.query,
    f"/* the same */ {SqlQuery.query}",
    f"({SqlQuery.query})",
    f"with a as ({SqlQuery.query}) select * from a",
    f"{SqlQuery.query} order by 1 desc;",
    f"select * from ({SqlQuery.query}) as a union all select * from ({SqlQuery.query}) as b "
    "where false",
)
PIECES = (
    *ODD_NUMBERS,
    *("select", "from", "where", "orders", "customers", "c.id", "o.cents", "count(*)", "null"),
    *("(", ")", ",", ";", "--", "/*", "*/", "'", '"', "$$", "union all", "limit 1", "group by"),
    *("set", "commit", "pg_sleep(1)", "random()", "\\", "\0", "$1", "::int", "é", "lateral"),
)


def fuzz_queries(count: int, seed: int, url: str) -> Tally:
    """Put `count` queries to the verifier of sql-query; acceptances are compared once more."""
    rng, problem, tally = random.Random(f"sql {seed}"), QuickQuery(), Tally()
    problem.attach(url)
    for _ in range(count):
        text, same = _query(rng)
        try:
            problem.judge(text)
        except InvalidAnswer as reason:
            tally.refused += 1
            if same:
                tally.faults.append(f"refused ({reason}) although the same: {text[:200]!r}")
        except Exception as error:
            tally.faults.append(f"{type(error).__name__}: {error} on {text[:200]!r}")
        else:
            tally.accepted += 1
            if not same and not problem.same_on(99, text):
                tally.faults.append(f"accepted: {text!r}")
    return tally


def _query(rng: random.Random) -> tuple[object, bool]:
    """(a query, whether it is surely the reference in other words)."""
    kind = rng.random()
    if kind < 0.02:
        return rng.choice((None, 1, [], {}, True, b"select 1")), False
    if kind < 0.06:
        return " ".join(rng.choice(PIECES) for _ in range(rng.randrange(30))), False
    text = rng.choice(SAME)
    if kind < 0.12:
        return text, True
    words = text.split(" ")
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, other = rng.randrange(len(words)), rng.randrange(len(words))
        change = rng.randrange(4)
        if change == 0:
            words[at] = rng.choice(PIECES)
        elif change == 1 and len(words) > 1:
            del words[at]
        elif change == 2:
            words.insert(at, words[other])
        else:
            words[at] = words[other]
    return " ".join(words), False


def main(count: int = 2000, seed: int = 0) -> int:
    """Fuzz both verifiers; the exit code."""
    from eurekaflow.models.throwaway import throwaway

    tallies = {"denoising": fuzz_denoising(count, seed)}
    with tempfile.TemporaryDirectory(prefix="eurekaflow-fuzz-") as home:
        Path(home).chmod(0o755)
        with throwaway(Path(home)) as url:
            tallies["sql-query"] = fuzz_queries(count, seed, url)
    for name, tally in tallies.items():
        print(f"{name}: {count} answers, {tally.accepted} accepted, {tally.refused} refused, "
              f"{len(tally.faults)} faults")  # fmt: skip
        for fault in tally.faults[:10]:
            print(f"  {fault}")
    return 1 if any(tally.faults for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main(*(int(x) for x in sys.argv[1:])))
