"""A large archive made by COPY: many runs whose answers to the cookbook are known beforehand.

Foreign keys are not checked while it fills and the text index is made at the end, as a restored
dump would do it. Everything follows from the sizes and one random seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import numpy as np
import psycopg

PROBLEMS = (("short-cut", "min"), ("wide-net", "max"), ("far-star", "min"), ("cold-map", "max"))
RARE = "scipy.optimize.linprog"  # in one program of every run
STAGES = ("plan", "sample", "verify", "archive", "update", "checkpoint")
FAILURES = (
    ("raised", "ValueError: no solution"),
    ("timeout", "stopped after 10 s"),
    ("invalid", "circles overlap"),
    ("raised", "NameError: name 'np' is not defined"),
)
SEEDS = 4
TIME = "2026-01-01 00:00:00+00"


@dataclass(frozen=True)
class Sizes:
    """How much to make; `attempts` follows."""

    runs: int = 40
    steps: int = 10
    groups: int = 8
    size: int = 32

    @property
    def attempts(self) -> int:
        """Attempts without the seeds."""
        return self.runs * self.steps * self.groups * self.size


@dataclass(frozen=True)
class Known:
    """What the archive holds, for tests to compare answers with."""

    sizes: Sizes
    best: dict[int, float]  # value by run
    best_step: dict[int, int]
    valid: dict[int, int]
    stalled: tuple[int, ...]  # runs that found nothing new in their second half


def generate(url: str, sizes: Sizes, *, seed: int = 0) -> Known:
    """Fill an empty archive and gather statistics; what it holds."""
    maker = _Maker(sizes, np.random.default_rng(seed))
    with psycopg.connect(url) as connection:
        connection.execute("set session_replication_role = replica")
        definition = _drop_text_index(connection)
        for run in range(1, sizes.runs + 1):
            maker.run(run)
            for table, (columns, rows) in maker.take().items():
                _copy(connection, table, columns, rows)
        for table in ("attempts", "runs", "problems", "ledger", "claims"):
            column = f"archive.{table}"
            connection.execute(
                f"select setval(pg_get_serial_sequence('{column}', 'id'),"
                f" (select coalesce(max(id), 1) from {column}))".encode()
            )
        if definition:
            connection.execute("set maintenance_work_mem = '256MB'")
            connection.execute(definition.encode())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze")
    return maker.known()


def _drop_text_index(connection: psycopg.Connection[Any]) -> str:
    name = "archive.bodies_program_text"
    row = connection.execute("select pg_get_indexdef(to_regclass(%s))", [name]).fetchone()
    connection.execute(f"drop index if exists {name}".encode())
    return str(row[0]) if row and row[0] else ""


def _copy(
    connection: psycopg.Connection[Any], table: str, columns: LiteralString, rows: Iterable[Any]
) -> None:
    command = f"copy archive.{table} ({columns}) from stdin"
    with connection.cursor() as cursor, cursor.copy(command.encode()) as stream:
        stream.write("".join("\t".join(map(_cell, row)) + "\n" for row in rows))


def _cell(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bytes):
        return "\\\\x" + value.hex()
    if isinstance(value, list):
        return "{" + ",".join(map(str, value)) + "}"
    if isinstance(value, dict | UUID | bool):
        return json.dumps(value) if not isinstance(value, UUID) else str(value)
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    return repr(value) if isinstance(value, float) else str(value)


COLUMNS: dict[str, LiteralString] = {
    "problems": "id, name, version, direction, metric, records",
    "runs": "id, uuid, problem_id, config, seed, hardware, state, version, total_rollouts,"
    " total_expansions, next_seq, created_at",
    "steps": "run_id, step, stage, version_sampled, version_produced, seconds, committed_at",
    "attempts": "id, run_id, step, group_index, attempt_index, seq, parent_id, path, state,"
    " outcome, value, reward, eligible, archivable, program_hash, response_hash, message,"
    " response_tokens, run_s, queue_s, verified_at",
    "groups": "run_id, step, group_index, parent_id, shown_id, prompt_hash, prompt_ids,"
    " group_size, valid_fraction, reward_min, reward_mean, reward_max, beta, kl, trained",
    "bodies": "hash, kind, content, program",
    "ledger": "run_id, step, stage, epoch, tokens_in, tokens_out, cpu_s, money",
    "claims": "attempt_id, verifier_version, mode, value",
}


class _Maker:
    """Rows of one run at a time."""

    def __init__(self, sizes: Sizes, random: np.random.Generator) -> None:
        self.sizes, self.random = sizes, random
        self.rows: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.seen: set[bytes] = set()
        self.next_id = 0
        self.best: dict[int, tuple[float, int]] = {}
        self.valid: dict[int, int] = {}
        for number, (name, direction) in enumerate(PROBLEMS, 1):
            record = {"holder": "Somebody", "kind": "human", "score": 0.5, "source": "a paper"}
            row = (number, name, "1", direction, "length", json.dumps([record]))
            self.rows["problems"].append(row)

    def take(self) -> dict[str, tuple[LiteralString, list[Any]]]:
        """The rows made so far; they are made once."""
        taken = {name: (COLUMNS[name], rows) for name, rows in self.rows.items() if rows}
        self.rows = {name: [] for name in COLUMNS}
        return taken

    def known(self) -> Known:
        stalled = tuple(run for run in self.best if run % 5 == 0)
        return Known(
            self.sizes,
            {run: value for run, (value, _) in self.best.items()},
            {run: step for run, (_, step) in self.best.items()},
            self.valid,
            stalled,
        )

    def run(self, run: int) -> None:
        """A run with its steps: values rise by steps, in every fifth run only to the middle."""
        s = self.sizes
        number = 1 + run % len(PROBLEMS)
        config = {"problem": PROBLEMS[number - 1][0], "lr": [1e-5, 5e-5][run % 2], "steps": 100}
        done = s.steps * s.groups * s.size
        self.rows["runs"].append(
            (run, UUID(int=run << 96 | 7), number, config, run, {"cpus": 2, "machine": "x86_64"},
             "finished" if run % 7 else "paused", s.steps, done, s.steps * s.groups,
             done + SEEDS, TIME)
        )  # fmt: skip
        self.seq, self.valid[run] = 0, 0
        nodes: list[tuple[int, list[int], float]] = []
        for slot in range(SEEDS):
            nodes.append((self._attempt(run, -1, slot, 0, None, [], -1.0, ""), [], -1.0))
        for step in range(s.steps):
            self._step(run, step, nodes)
        best = max(nodes, key=lambda node: node[2])[0]
        self.rows["claims"].append((best, "1", "exact", self.best[run][0]))

    def _step(self, run: int, step: int, nodes: list[tuple[int, list[int], float]]) -> None:
        s = self.sizes
        seconds = {name: round(1.0 + len(name) + step % 3, 2) for name in STAGES}
        self.rows["steps"].append((run, step, "committed", step, step + 1, seconds, TIME))
        for stage in STAGES:
            out = 200 * s.groups * s.size if stage == "sample" else 0
            self.rows["ledger"].append((run, step, stage, 1, out // 10, out, 2.5, 0.01))
        reach = min(step, s.steps // 2 - 1) if run % 5 == 0 else step
        ceiling = -1.0 + 0.4 * (reach + 1) / s.steps + run * 1e-4
        rising = [(step + 1) / s.steps]
        new: list[tuple[int, list[int], float]] = []
        for group in range(s.groups):
            parent, path, _ = (
                nodes[-1 - group % len(nodes)] if group else max(nodes, key=lambda node: node[2])
            )
            values = ceiling - 0.2 * self.random.random(s.size)
            if run % 5 == 0 and step >= s.steps // 2:
                values = values - 0.05  # never again as good as before
            ok = self.random.random(s.size) < 0.3 + 0.5 * rising[0]
            ok[0] = True
            self._group(run, step, group, parent, values, ok)
            below = [*path, parent]
            for slot in range(s.size):
                value = float(values[slot]) if ok[slot] else None
                text = self._program(run, step, group, slot)
                found = self._attempt(run, step, group, slot, parent, below, value, text)
                if value is not None:
                    new.append((found, below, value))
        nodes.extend(sorted(new, key=lambda node: node[2])[-2 * s.groups :])

    def _group(self, run: int, step: int, group: int, parent: int, values: Any, ok: Any) -> None:
        prompt = self._body(f"Improve it. Run {run}, step {step}, group {group}.", program=False)
        rewards = np.where(ok, np.abs(values), 0.0)
        beta = float(10.0 ** (1 + (step + group) % 4))
        self.rows["groups"].append(
            (run, step, group, parent, parent, prompt, [1, 2], self.sizes.size, float(ok.mean()),
             float(rewards.min()), float(rewards.mean()), float(rewards.max()), beta, 0.69, True)
        )  # fmt: skip

    def _program(self, run: int, step: int, group: int, slot: int) -> str:
        if step == 1 and group == 0 and slot == 0:
            return f"from scipy import optimize\nresult = {RARE}([{run}])\n"
        key = slot // 2 if slot % 8 == 0 else run * 10**6 + step * 10**4 + group * 1000 + slot // 2
        lines = "\n".join(f"x[{i}] = {(key * 31 + i) % 97}" for i in range(step % 5, step % 5 + 8))
        return f"import numpy as np\nx = np.zeros(16)\n{lines}\nprint({key})\n"

    def _attempt(
        self,
        run: int,
        step: int,
        group: int,
        slot: int,
        parent: int | None,
        path: list[int],
        value: float | None,
        text: str,
    ) -> int:
        self.next_id += 1
        number = self.next_id
        seed, valid = step < 0, value is not None
        outcome, message = FAILURES[number % len(FAILURES)]
        if valid:
            outcome, message = ("seed" if seed else "valid"), ""
        if valid and not seed:
            self.valid[run] += 1
            if value > self.best.get(run, (-np.inf, 0))[0]:  # type: ignore[operator]
                self.best[run] = (value, step)  # type: ignore[assignment]
        program = self._body(text, program=True) if text else None
        response = None if seed else self._body(f"Try this, number {number}.", program=False)
        self.rows["attempts"].append(
            (number, run, step, group, slot, self.seq, parent, path, "settled", outcome, value,
             abs(value) if valid else 0.0, valid and (seed or slot < 2), valid, program, response,
             message, None if seed else 200, 0.5 + number % 90 / 10, 0.01, TIME)
        )  # fmt: skip
        self.seq += 1
        return number

    def _body(self, text: str, *, program: bool) -> bytes:
        key = hashlib.sha256(text.encode()).digest()
        if key not in self.seen:
            if program:
                self.seen.add(key)
            self.rows["bodies"].append((key, "text", text, program))
        return key


def questions(page: str) -> Iterator[tuple[str, str]]:
    """(heading, statement) of every SQL block under a third-level heading of a page."""
    heading = ""
    lines = iter(page.splitlines())
    for line in lines:
        if line.startswith("### "):
            heading = line.removeprefix("### ")
        elif line == "```sql":
            block = []
            for inner in lines:
                if inner == "```":
                    break
                block.append(inner)
            yield heading, "\n".join(block)
