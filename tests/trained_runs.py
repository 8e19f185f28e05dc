"""Runs whose steps are archived with given answers, so that only updates and checkpoints work.

Also ways to damage a checkpoint's folder. The fixtures are in trained_fixtures.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eurekaflow.models.archive import Archive, RunRow
from eurekaflow.models.settings import RunConfig
from eurekaflow.tasks import session
from eurekaflow.tasks.checkpoint import checkpoint
from eurekaflow.tasks.update import update
from tests.archives import expand, seeds
from tests.scripted_run import add_run

TREE = """
    select seq, step, outcome, value, reward, eligible, visits_expansion, best_child,
        encode(program_hash, 'hex') from archive.attempts where run_id = %s order by seq"""
WEIGHTS = "select step, sha256, files from archive.checkpoints where run_id = %s order by step"


class TrainedRuns:
    """Runs in this process, and what they told."""

    def __init__(self, archive: Archive, home: Path, make: Callable[[RunConfig], Any]) -> None:
        self.archive, self.home, self.make = archive, home, make
        self.notes: list[str] = []

    def __call__(self, event: session.Event) -> None:
        if event.kind == "note":
            self.notes.append(str(event.metrics["text"]))

    def add(self, **settings: Any) -> RunRow:
        sizes = {"groups": 1, "group_size": 4, "wave": 4, "lora_rank": 4, "micro_batch": 4}
        return add_run(
            self.archive.url, **{"keep_checkpoints": 3, "lr": 1e-2, **sizes, **settings}
        )

    def open(self, run: RunRow) -> session.Session:
        place = session.Place(
            home=self.home,
            database_url=self.archive.url,
            make_policy=lambda config, _: self.make(config),
            listener=self,
        )
        session.configure(place)
        return session.of(str(run.uuid))

    def learn(
        self,
        run: RunRow,
        *steps: int,
        commit: bool = True,
        before_end: Callable[[session.Session], object] = lambda s: None,
    ) -> None:
        """Archive steps with given answers, train on them and commit."""
        s = self.open(run)
        try:
            self.archive.add_seeds(s.hold, seeds(-1.0))
            [seed] = self.archive.attempts(run.id, -1)
            for step in steps:
                answers = [-0.5 - 0.01 * step, None, -0.7, -0.6]
                named = [None if v is None else (v, f"{v} of {step}") for v in answers]
                expand(self.archive, s.hold, step, [(seed.id, named)])
                update.fn(str(run.uuid), step)
                if commit:
                    checkpoint.fn(str(run.uuid), step)
            before_end(s)
        finally:
            session.close(str(run.uuid), "paused")

    def content(self, run: RunRow, sql: str) -> list[tuple[Any, ...]]:
        return self.archive.query(sql, params=(run.id,), as_reader=False)[1]

    def folders(self, run: RunRow) -> list[Path]:
        return sorted((self.home / "runs" / str(run.uuid) / "checkpoints").glob("*"))


def delete(folder: Path) -> None:
    shutil.rmtree(folder)


def delete_file(folder: Path) -> None:
    (folder / "optimizer.safetensors").unlink()


def truncate(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])


def flip(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))


DAMAGE = {delete: "missing", delete_file: "missing", truncate: "torn", flip: "altered: sha256"}
