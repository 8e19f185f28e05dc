"""What a stage spends: CPU seconds of the whole process tree, GPU seconds, tokens, money.

Containers are no part of the tree: what candidates used there is added from their verdicts.

Written to the ledger while the stage works, at most every `WRITE_EVERY_S` seconds, and when it
ends, so a killed process takes at most that much of its bill with it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from eurekaflow.models.settings import RunConfig
from eurekaflow.models.spending import Spent
from eurekaflow.tasks.session import Session

WRITE_EVERY_S = 5.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Meter:
    """Counts what one stage spends from now on, added to what it spent here before."""

    def __init__(self, s: Session, step: int, stage: str) -> None:
        self._s, self._step, self._stage = s, step, stage
        self._before = s.spent_here.get((step, stage), Spent())
        self._tokens, self._elsewhere = Spent(), 0.0
        self._cpu, self._wall, self._written = tree_cpu_s(), time.monotonic(), time.monotonic()

    def tokens(self, *, read: int = 0, sampled: int = 0, trained: int = 0) -> None:
        """Count tokens; the ledger is written now and then."""
        self._tokens += Spent(tokens_in=read, tokens_out=sampled, tokens_trained=trained)
        self.tick()

    def elsewhere(self, cpu_s: float) -> None:
        """Count CPU seconds of processes that are not below this one: those in containers."""
        self._elsewhere += cpu_s

    def tick(self) -> None:
        """Write the ledger when it is time again."""
        if time.monotonic() - self._written > WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write what was spent so far to the ledger."""
        self._written = time.monotonic()
        total = self._before + self._so_far()
        self._s.spent_here[self._step, self._stage] = total
        self._s.archive.add_ledger(
            self._s.hold,
            self._step,
            self._stage,
            tokens_in=total.tokens_in,
            tokens_out=total.tokens_out,
            tokens_trained=total.tokens_trained,
            cpu_s=total.cpu_s,
            gpu_s=total.gpu_s,
            money=total.money,
            night=self._s.place.night,
        )

    def _so_far(self) -> Spent:
        gpus = gpus_held(self._s)
        spent = replace(
            self._tokens,
            cpu_s=max(0.0, tree_cpu_s() - self._cpu) + self._elsewhere,
            gpu_s=gpus * (time.monotonic() - self._wall),
        )
        return replace(spent, money=cost(spent, self._s.config))


@contextlib.contextmanager
def metered(s: Session, step: int, stage: str) -> Iterator[Meter]:
    """A stage whose spend is written when it ends, also when it fails."""
    meter = Meter(s, step, stage)
    try:
        yield meter
    except BaseException:
        with contextlib.suppress(Exception):  # the stage's own error is the one to show
            meter.write()
        raise
    meter.write()


def cost(spent: Spent, config: RunConfig) -> float:
    """Money for an amount, by the run's price table."""
    tokens = (
        spent.tokens_in * config.price_input
        + spent.tokens_out * config.price_output
        + spent.tokens_trained * config.price_trained
    )
    hours = spent.cpu_s * config.price_cpu_hour + spent.gpu_s * config.price_gpu_hour
    return tokens / 1e6 + hours / 3600


def gpus_held(s: Session) -> int:
    """GPUs that the run keeps from others while a stage works, idle or not."""
    if "policy" not in s.__dict__:
        return 0
    return int(str(getattr(s.policy, "device", "cpu")).startswith("cuda"))


def tree_cpu_s() -> float:
    """CPU seconds of this process and all below it, those that have ended included."""
    try:
        return sum(tree(os.getpid()).values())
    except OSError:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system


def tree(root: int) -> dict[int, float]:
    """CPU seconds by process id, of a process and all below it. Raises OSError without /proc."""
    return _below(root, _processes())


def _processes() -> dict[int, tuple[int, float]]:
    """Parent and CPU seconds of every process that can be seen."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has just ended
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            ticks = sum(map(int, fields[11:15]))  # its own, and of children it has waited for
            found[int(folder.name)] = (int(fields[1]), ticks / _TICKS)
    return found


def _below(root: int, processes: dict[int, tuple[int, float]]) -> dict[int, float]:
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in processes.items():
        children.setdefault(parent, []).append(pid)
    found, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        if pid in processes and pid not in found:
            found[pid] = processes[pid][1]
            waiting += children.get(pid, [])
    return found
