"""What every fault is held against: twins that were left alone, and a tally of what was lost.

After each life nothing that was stored may be gone, doubled or changed; at the end the tree, the
texts, the tokens and the weights equal those of an undisturbed run, and so do the counters a
replay gives.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from eurekaflow.models import adapter_files, checkpoints
from eurekaflow.models.archive import Archive, RunRow
from tests.lives import Launcher, Life, Runner
from tests.scripted_run import add_run

# A generous budget: a candidate must not time out because the machine is busy. One at a time, as
# every life starts its zygotes anew, which costs more than all else that it does.
SCRIPTED = {
    **{"groups": 2, "group_size": 4, "wave": 2, "steps": 2},
    **{"keep_checkpoints": 1, "budget_s": 60.0, "workers": 1},
}
BUNDLED = {
    **{"groups": 1, "group_size": 4, "wave": 4, "micro_batch": 4, "max_new_tokens": 8},
    **{"threads": 1, "kl": 0, "workers": 1},  # other tests run beside this
    **{"steps": 2, "lr": 1e-4, "keep_checkpoints": 1, "seed": 3, "budget_s": 60.0},
}
ENDED = """
    select a.seq, a.step, a.group_index, a.attempt_index, p.seq as parent, a.state, a.outcome,
        a.value, a.reward, a.message, a.eligible, a.visits_expansion, a.visits_rollout,
        a.best_child, encode(a.response_hash, 'hex') as response,
        encode(a.program_hash, 'hex') as program,
        encode(a.construction_hash, 'hex') as construction,
        md5(t.ids::text || t.logprobs::text || t.mask::text) as tokens,
        encode(g.prompt_hash, 'hex') as prompt, g.beta, g.advantage_max
    from archive.attempts a
    left join archive.attempts p on p.id = a.parent_id
    left join archive.tokens t on t.attempt_id = a.id
    left join archive.groups g on (g.run_id, g.step, g.group_index)
        = (a.run_id, a.step, a.group_index)
    where a.run_id = %s order by a.seq"""
WEIGHTS = """
    select step, version, sha256, state from archive.checkpoints where run_id = %s order by step"""
STORED = """
    select a.id, a.step, a.group_index, a.attempt_index,
        case when a.response_hash is not null
            then jsonb_build_array(a.response_hash, a.sampled_at, md5(t::text))::text end,
        case when a.outcome is not null
            then jsonb_build_array(a.outcome, a.value, a.reward, a.message, a.program_hash,
                a.construction_hash, a.verified_at)::text end
    from archive.attempts a left join archive.tokens t on t.attempt_id = a.id
    where a.run_id = %s"""
NOT_WORK = ("hold.", "record_fingerprint.", "finish.", "release.")


@dataclass
class Fault:
    """What one kind of fault did, over all times it was tried."""

    tried: int = 0
    lost: int = 0
    duplicated: int = 0
    seconds: list[float] = field(default_factory=list)  # until work was committed again


class Tally:
    """The table that the suite prints."""

    def __init__(self) -> None:
        self.faults: dict[str, Fault] = {}

    def of(self, name: str) -> Fault:
        return self.faults.setdefault(name, Fault())

    def table(self) -> str:
        """The faults as a table in markdown."""
        lines = [
            "| fault | times tried | attempts lost | attempts duplicated"
            " | seconds to be working again: median, worst |",
            "|---|---:|---:|---:|---:|",
        ]
        for name, f in self.faults.items():
            seconds = "-"
            if f.seconds:
                seconds = f"{statistics.median(f.seconds):.2f}, {max(f.seconds):.2f}"
            lines.append(f"| {name} | {f.tried} | {f.lost} | {f.duplicated} | {seconds} |")
        return "\n".join(lines)


class Case:
    """One run that is being tortured."""

    def __init__(
        self, world: World, row: RunRow, *, bundled: bool = False, poisoned: bool = False
    ) -> None:
        self.world, self.row, self.bundled, self.poisoned = world, row, bundled, poisoned
        self.stored: dict[int, tuple[Any, ...]] = {}
        self.seconds = 0.0  # of a twin's only life
        self.log = world.home / f"{row.uuid}.points"

    def life(self, **values: Any) -> Life:
        return Life(
            **{
                "url": self.world.url,
                "home": str(self.world.home),
                "run": str(self.row.uuid),
                "log": str(self.log),
                "bundled": self.bundled,
                "poisoned": self.poisoned,
                **values,
            }
        )

    def eureka(self, *command: str, **values: Any) -> Life:
        """A life through the command line."""
        return self.life(command=("resume", str(self.row.uuid), *command), **values)

    def start(self, **values: Any) -> Runner:
        return self.world.launcher.start(self.life(**values))

    def live(self, **values: Any) -> tuple[Runner, int]:
        return self.world.launcher.live(self.life(**values))

    def check(self, fault: str, *, at: str = "") -> None:
        """Compare with what was stored before: nothing gone, doubled or changed."""
        entry = self.world.tally.of(fault)
        found = self.rows(STORED)
        now = {row[0]: row[1:] for row in found}
        places = [row[1:4] for row in found]
        gone = [i for i, old in self.stored.items() if not _keeps(old, now.get(i))]
        entry.lost += len(gone)
        entry.duplicated += len(places) - len(set(places))
        assert not gone, f"{fault} {at}: attempts {gone} were lost or changed"
        assert len(places) == len(set(places)), f"{fault} {at}: attempts were doubled"
        self.stored = now

    def ends_as_its_twin(self, fault: str) -> None:
        """Live to the end; the whole run then equals the undisturbed one."""
        _, code = self.live()
        assert code == 0, f"{fault}: the run could not be finished"
        self.equals_its_twin(fault)

    def equals_its_twin(self, fault: str) -> None:
        self.check(fault)
        twin = self.world.twin(bundled=self.bundled, poisoned=self.poisoned)
        assert self.rows(ENDED) == twin.rows(ENDED), fault
        assert self.rows(WEIGHTS) == twin.rows(WEIGHTS), fault
        assert self.world.archive.check_rebuild(self.row.id) == [], fault
        self.files_are_sound(fault)

    def files_are_sound(self, fault: str) -> None:
        """Every kept checkpoint is there unaltered, and nothing else is left."""
        folder = self.world.home / "runs" / str(self.row.uuid)
        kept = [c for c in self.world.archive.checkpoints(self.row.id) if c.state == "kept"]
        for row in kept:
            checkpoints.check(folder / row.path, row.files)
        left = {str(p.relative_to(folder)) for p in folder.glob("checkpoints/*")}
        left |= {p.name for name in ("staging-*", "replay-*") for p in folder.glob(name)}
        assert left == {row.path for row in kept}, f"{fault}: files left behind"

    def tear_weights(self) -> None:
        """Cut the newest kept weights short."""
        kept = [c for c in self.world.archive.checkpoints(self.row.id) if c.state == "kept"]
        folder = self.world.home / "runs" / str(self.row.uuid) / kept[-1].path
        file = folder / adapter_files.ADAPTER
        file.write_bytes(file.read_bytes()[:-7])

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.world.archive.query(sql, params=(self.row.id,), as_reader=False)[1]


def _keeps(old: tuple[Any, ...], now: tuple[Any, ...] | None) -> bool:
    """Whether a row still has its place, and the response and verdict it had."""
    if now is None or now[:3] != old[:3]:
        return False
    return all(o is None or o == n for o, n in zip(old[3:], now[3:], strict=True))


class World:
    """An archive, a home for files, a launcher of lives, and the twins."""

    def __init__(
        self,
        url: str,
        home: Path,
        environment: Mapping[str, str] | None = None,
        *,
        warmth: Literal["cold", "warm", "torch"] = "warm",
    ) -> None:
        self.url, self.home, self.tally = url, home, Tally()
        self.archive = Archive(url, patience_s=60.0)
        self.launcher = Launcher(environment, log=home / "lives.log", warmth=warmth)
        self._twins = cache(self._undisturbed)
        self.twin = self._twin

    def case(self, *, bundled: bool = False, poisoned: bool = False, **settings: Any) -> Case:
        row = add_run(self.url, **{**(BUNDLED if bundled else SCRIPTED), **settings})
        return Case(self, row, bundled=bundled, poisoned=poisoned)

    def _twin(self, *, bundled: bool, poisoned: bool = False) -> Case:
        return self._twins(bundled, poisoned)

    def _undisturbed(self, bundled: bool, poisoned: bool) -> Case:
        twin = self.case(bundled=bundled, poisoned=poisoned)
        began = time.monotonic()
        _, code = twin.live()
        twin.seconds = time.monotonic() - began
        assert code == 0, (self.home / "lives.log").read_text()[-2000:]
        return twin

    def close(self) -> None:
        self.launcher.close()
        self.archive.close()


def again(before: float, runner: Runner) -> list[float]:
    """Seconds from `before` until work begun after it was committed; none if there was none to do.

    A commit that a fault overtook counts from its repetition.
    """
    begun = False
    for at, name in runner.points():
        if at <= before or name.startswith(NOT_WORK):
            continue
        begun |= name.endswith(".before_commit")
        if begun and name.endswith(".after_commit"):
            return [at - before]
    return []
