"""Thousands of candidates, good, bad and hostile, after which nothing may be left of them.

    python -m tests.soak [--count 20000] [--backend process|docker] [--engine ADDRESS]

Prints a line now and then and fails with what leaked: processes, re-parented ones too, mounts,
cgroups, containers, files in the temporary folder, descriptors, memory of this process.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

from eurekaflow.verifiers import worker
from eurekaflow.verifiers.docker_engine import LABEL, Engine
from eurekaflow.verifiers.docker_sandbox import DockerSandbox
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import Cause, Job, Limits, Sandbox
from tests.attacks import suite

WALL_S = 0.3
SLACK = {
    "memory": 24 << 20,  # what an allocator keeps; 20,000 leaks of a kilobyte would be 20 MB
    "descriptors": 6,  # connections that the engine's client keeps open, ten at the most
    "containers": 2,  # a slot has one or two
}
GOOD = (
    "def run(world):\n    return float(np.arange(5.0).sum())",
    "def run(world):\n    return np.ones((20, 3))",
    "def run(world):\n    open('x', 'w').write('x' * 1000)\n    return 1",
    "import random\ndef run(world):\n    print('hello')\n    return [random.random()] * 100",
)
BAD = (
    "def run(world):\n    1 / 0",
    "def run(:",
    "import os\nos._exit(3)",
    "def run(world):\n    return object()",
    "import ctypes\ndef run(world):\n    ctypes.string_at(8)",
    "def run(world):\n    return bytearray(1 << 40)",
)
SLOW = frozenset({"bomb_output", "bomb_time", "bomb_after_return", "faked_clock", "bomb_forks"})
MARK = "EUREKAFLOW_SOAK"
RARELY = 8  # rounds of the mixture in which each slow one is run once


@dataclass(frozen=True)
class State:
    """What could leak, counted from outside."""

    processes: int
    orphans: int
    mounts: int
    cgroups: int
    containers: int
    files: int
    descriptors: int
    memory: int


def look(engine: Engine | None) -> State:
    """The counts as they are now."""
    gc.collect()
    return State(
        processes=len(_descendants(os.getpid())),
        orphans=len(orphans()),
        mounts=_mounts(engine),
        cgroups=sum(1 for root in ("memory", "pids", "unified", "")
                    for _ in Path("/sys/fs/cgroup", root).glob(f"**/eurekaflow-{os.getpid()}-*")),
        containers=len(engine.api.containers(all=True, filters={"label": LABEL})) if engine else 0,
        files=sum(name.startswith("eurekaflow-") for name in os.listdir(tempfile.gettempdir())),
        descriptors=len(os.listdir("/proc/self/fd")),
        memory=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"),
    )  # fmt: skip


def _mounts(engine: Engine | None) -> int:
    """The mounts seen here, without those of the engines that other tests started meanwhile."""
    ours = str(Path(engine.api.info()["DockerRootDir"]).parent) if engine else "nobody's"
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sum("/eurekaflow-engine-" not in line or f"{ours}/" in line for line in lines)


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def mark() -> None:
    """Before the sandbox starts: its zygotes, and what they fork, carry this process's mark."""
    worker.ENVIRONMENT[MARK] = str(os.getpid())


def orphans() -> list[int]:
    """Marked processes that are no longer below this one: re-parented to whoever collects."""
    below, found = set(_descendants(os.getpid())), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = f"{MARK}={os.getpid()}".encode() in (folder / "environ").read_bytes().split(
                b"\0"
            )
            if ours and int(folder.name) not in below:
                found.append(int(folder.name))
    return found


def programs(seed: int) -> list[str]:
    """`RARELY` rounds of every program, the fast good ones often, the slow ones in one round."""
    hostile = {
        attack.name: f"{attack.program}\ndef run(world):\n    return {attack.name}(world)"
        for attack in suite.ATTACKS
    }
    quick = [program for name, program in hostile.items() if name not in SLOW]
    slow = sorted(SLOW)
    mixed: list[str] = []
    for number in range(RARELY):
        rare = [hostile[name] for name in slow[number::RARELY]]
        a_round = [*GOOD * 30, *BAD * 6, *quick, *rare, "def run(world):\n    while True: pass"]
        random.Random(seed + number).shuffle(a_round)
        mixed += a_round
    return mixed


def soak(sandbox: Sandbox, count: int, *, engine: Engine | None, every: int = 1000) -> list[str]:
    """Run `count` candidates; what differs afterwards from a state after the first few."""
    world = suite.World()
    limits = Limits(wall_s=WALL_S, cpu_s=2, memory_bytes=64 << 20, scratch_bytes=1 << 20,
                    result_bytes=1 << 18)  # fmt: skip
    mixed, causes = programs(0), dict.fromkeys(Cause, 0)

    def one(number: int) -> None:
        job = Job(program=mixed[number % len(mixed)], entry_point="run",
                  arguments={"world": world.values}, seed=number)  # fmt: skip
        causes[sandbox.run(job, limits).cause] += 1

    try:
        world.prepare()
        workers = len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(workers) as pool:
            started, first, done = time.monotonic(), min(len(mixed) // RARELY, count // 2), 0
            list(pool.map(one, range(first)))
            before = look(engine)
            for done in range(first, count, every):
                list(pool.map(one, range(done, min(done + every, count))))
                speed = min(done + every, count) / (time.monotonic() - started)
                print(f"{min(done + every, count)} candidates, {speed:.0f} /s, {look(engine)}",
                      file=sys.stderr, flush=True)  # fmt: skip
            after = look(engine)
        print({cause.value: number for cause, number in causes.items()}, file=sys.stderr)
        return [*_leaks(before, after), *world.harm()]
    finally:
        world.close()


def _leaks(before: State, after: State) -> list[str]:
    found = []
    for field in fields(State):
        was, now = getattr(before, field.name), getattr(after, field.name)
        if now > was + SLACK.get(field.name, 0):
            found.append(f"{field.name}: {was} -> {now}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--backend", choices=("process", "docker"), default="process")
    parser.add_argument("--engine", default=None)
    given = parser.parse_args()
    workers = len(os.sched_getaffinity(0))
    mark()
    print(f"{workers} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    if given.backend == "process":
        with ProcessSandbox(workers) as process:
            leaks = soak(process, given.count, engine=None)
            anomalies = process.anomalies
    else:
        engine = Engine(given.engine)
        with DockerSandbox(workers, base_url=given.engine) as containers:
            leaks = soak(containers, given.count, engine=engine)
            anomalies = containers.anomalies
        engine.close()
    verdict = "missed" if leaks or anomalies else "met"
    print(f"{given.count} candidates, {anomalies} anomalies, leaks: {leaks or 'none'} "
          f"(target: none, {verdict}; load {os.getloadavg()[0]:.1f})")  # fmt: skip
    return 1 if leaks or anomalies else 0


if __name__ == "__main__":
    sys.exit(main())
