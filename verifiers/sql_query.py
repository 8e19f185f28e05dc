"""Rewriting a slow Postgres query: the same result, in less time.

The answer is the text of one query. Its result must equal the reference's on several data sets,
none of which the model sees, duplicates included; its value is minus the median of its runtimes,
measured in alternation with the reference (sql_trial). Subclass it for a query of your own: give
`script(seed, size)`, `query` and a statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from eurekaflow.verifiers import sql_query_texts as texts
from eurekaflow.verifiers.judge import Judge
from eurekaflow.verifiers.problem import (
    TRAINING,
    InvalidAnswer,
    Judgement,
    Problem,
    Remeasurement,
    Seed,
)
from eurekaflow.verifiers.sandbox import Sandbox
from eurekaflow.verifiers.sql_trial import (
    MOST_ROWS,
    TIMEOUT_MS,
    Databases,
    first_word,
    refuse,
)

FOLDER = Path(__file__).resolve().parent
STRICT = "strict"
LONGEST = 20_000  # characters
QUERIES = ("select", "with", "values", "table")  # what a query begins with


class SqlQuery(Problem):
    """Rewrite a slow query with the same result."""

    name = "sql-query"
    version = "1"
    title = "A slow Postgres query, rewritten"
    direction = "min"
    metric = "ms"
    answer = "text"
    entry_point = ""
    service = "postgres"
    modes = (TRAINING, STRICT)
    claim_mode = STRICT
    noise = 0.5  # of a median of few runs, beside other programs
    finalists = 3

    query: ClassVar[str] = (FOLDER / "sql_query_slow.sql").read_text(encoding="utf-8")
    ordered: ClassVar[bool] = False  # whether the order of the rows is part of the result
    size: ClassVar[int] = 200  # of the data set that is timed
    data: ClassVar[Sequence[tuple[int, int]]] = ((11, 200), (12, 37), (13, 0))  # seed, size
    rounds: ClassVar[Mapping[str, int]] = {TRAINING: 5, STRICT: 15}  # runs of each query
    further: ClassVar[Sequence[tuple[int, int]]] = ((14, 150), (15, 1))  # in strict mode

    def script(self, seed: int, size: int) -> str:
        """SQL that makes tables and data; no two seeds give the same data."""
        text = (FOLDER / "sql_query_shop.sql").read_text(encoding="utf-8")
        return text.replace("{seed}", str(1000 * seed)).replace("{customers}", str(size))

    def attach(self, url: str) -> None:
        """Make the databases that are absent. Raises psycopg.Error without a server."""
        self._server = url
        self._names = [self._databases.prepare(self.script(*chosen)) for chosen in self.data]

    @cached_property
    def _databases(self) -> Databases:
        return Databases(self._server)

    def statement(self, *, brief: bool = False) -> str:
        if brief:
            return texts.BRIEF
        return texts.FULL.format(query=self.query, customers=self.size)

    def opening(self) -> str:
        return texts.OPENING

    def seeds(
        self, rng: np.random.Generator, count: int, *, brief: bool = False
    ) -> Sequence[Seed]:
        """The slow query; a run measures it, until then it is worth less than any valid answer."""
        return [Seed(value=-TIMEOUT_MS, program=self.query)] * count

    def judge(self, answer: object, *, exact: bool = False) -> Judgement:
        return self.measure(answer, mode=TRAINING)

    def measure(self, answer: object, *, mode: str) -> Judgement:
        """Minus the median runtime in milliseconds of a query with the reference's result."""
        query = read(answer)
        names = list(self._names)
        if mode == STRICT:
            names += [self._databases.prepare(self.script(*chosen)) for chosen in self.further]
        for name in names:
            self._compare(name, query)
        timing = self._databases.time(
            names[0], query, self.query, rounds=self.rounds[mode], ordered=self.ordered
        )
        metrics = {
            "speedup": timing.speedup,
            "fastest_ms": min(timing.answer),
            "slowest_ms": max(timing.answer),
            "reference_ms": sorted(timing.reference)[len(timing.reference) // 2],
        }
        return Judgement(value=-timing.median, metrics=metrics)

    def _compare(self, name: str, query: str) -> None:
        expected = self._databases.expected(name, self.query, most=MOST_ROWS)
        found = self._databases.result(name, query, most=len(expected.rows))
        refuse(found, expected, ordered=self.ordered)

    def same_on(self, seed: int, query: str) -> bool:
        """Whether a query has the reference's result on the data of another seed."""
        name = self._databases.prepare(self.script(seed, self.size))
        try:
            self._compare(name, query)
        except InvalidAnswer:
            return False
        return True

    def reward(self, value: float) -> float:
        """Runs per second."""
        return -1000.0 / value

    def remeasure(
        self, program: str, *, spec: str, sandbox: Sandbox, judge: Judge
    ) -> Sequence[Remeasurement]:
        """Fifteen rounds, and the result compared on data that no training saw."""
        verdict = judge.verdict_of_text(spec, program, mode=STRICT)
        if verdict.value is None:
            raise InvalidAnswer(verdict.message)
        message = f"{verdict.metrics['speedup']:.3g} times as fast as the reference"
        return [Remeasurement(mode=STRICT, value=verdict.value, message=message)]


def read(answer: object) -> str:
    """The query of an answer, without its last semicolon. Raises InvalidAnswer."""
    if not isinstance(answer, str):
        raise InvalidAnswer(f"the answer must be a query's text, not {type(answer).__name__}")
    if len(answer) > LONGEST:
        raise InvalidAnswer(f"the query has {len(answer)} characters, allowed are {LONGEST}")
    if "\0" in answer:
        raise InvalidAnswer("the query holds a NUL character")
    query = answer.strip().rstrip(";").rstrip()
    word = first_word(query)
    if word not in QUERIES:
        raise InvalidAnswer(f"a query begins with select or with, not {word[:30] or query[:30]!r}")
    return query
