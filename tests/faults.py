"""The faults a run is put through; each function tries one kind and fails if anything was lost."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from eurekaflow.models.faultpoints import POINTS
from tests.torture import Case, World, again

KILLED = -signal.SIGKILL
STAGE_ENDS = (
    "plan.after_commit",
    "sample.after_wave",
    "verify.after_batch",
    "settle.after_commit",
    "record_update.after_commit",
    "commit_step.after_commit",
)


def killed_at_points(world: World, points: Sequence[str], *, bundled: bool = False) -> None:
    """SIGKILL at each point in turn, one life after the other, as many as fit into one run."""
    fault = f"SIGKILL at a named point{' (bundled policy)' if bundled else ''}"
    order = [name for _, name in the_points(world.twin(bundled=bundled))]
    left = sorted(points, key=order.index)
    while left:
        case, before, missed = world.case(bundled=bundled), 0.0, list[str]()
        for point in left:
            runner, code = case.live(point=point)
            world.tally.of(fault).seconds += again(before, runner) if before else []
            if code != KILLED:
                missed.append(point)
                break
            before = time.monotonic()
            world.tally.of(fault).tried += 1
            case.check(fault, at=point)
        else:
            case.ends_as_its_twin(fault)
            return
        case.equals_its_twin(fault)
        assert code == 0, f"after {point} the run ended with {code}"
        assert missed[0] != left[0], f"{point} is not reached in a run"
        left = left[left.index(missed[0]) :]


def the_points(case: Case) -> list[tuple[float, str]]:
    """The points of a run that was never killed."""
    lines = [line.split() for line in case.log.read_text().splitlines()]
    return [(float(at), name) for at, _, name in lines]


def killed_at_random(world: World, times: int, *, seed: int = 1, bundled: bool = False) -> None:
    """SIGKILL at instants drawn over the length of an undisturbed run."""
    fault = f"SIGKILL at a random instant{' (bundled policy)' if bundled else ''}"
    workers = 1 if bundled else 2  # candidates that run when it comes
    entry, draw = world.tally.of(fault), random.Random(seed)
    length = world.twin(bundled=bundled).seconds
    while entry.tried < times:
        case, before = world.case(bundled=bundled, workers=workers), 0.0
        while entry.tried < times:
            runner = case.start()
            time.sleep(draw.uniform(0.0, 0.7 * length))
            runner.signal(signal.SIGKILL)
            code = world.launcher.wait(runner)
            entry.seconds += again(before, runner) if before else []
            case.check(fault)
            if code != KILLED:
                assert code == 0, f"{fault}: ended with {code}"
                break
            before = time.monotonic()
            entry.tried += 1
        case.ends_as_its_twin(fault)


def killed_between_saved_weights(world: World) -> None:
    """SIGKILL where the first step's weights are in no file: the end is the same."""
    fault = "SIGKILL between saved versions of the weights"
    places = (
        ("record_update.after_commit", 1),
        ("commit_step.after_commit", 1),
        ("sample.after_wave", 6),
    )  # the last in the second step
    for point, hit in places:
        case = world.case(checkpoint_every=2)
        killed_at(case, fault, point, hit=hit)
        before = time.monotonic()
        runner, code = case.live()
        assert code == 0, f"{fault}: after {point} the run ended with {code}"
        world.tally.of(fault).seconds += again(before, runner)
        case.equals_its_twin(fault)


def killed_while_replaying(world: World) -> None:
    """SIGKILL around the row that names replayed weights, its checkpoint torn before each life."""
    fault = "SIGKILL while damaged weights are replayed"
    case = world.case()
    _, code = case.live(point="plan.after_commit", hit=2)
    assert code == KILLED
    for when in ("before", "after"):
        case.tear_weights()
        killed_at(case, fault, f"restore_checkpoint.{when}_commit")
    case.ends_as_its_twin(fault)


def killed_while_giving_up(world: World) -> None:
    """SIGKILL around the transaction that gives up a prompt which cannot be sampled."""
    fault = "SIGKILL while poisoned work is given up"
    case = world.case(poisoned=True)
    for when in ("before", "after"):
        killed_at(case, fault, f"abandon.{when}_commit")
    case.ends_as_its_twin(fault)


def killed_at(case: Case, fault: str, point: str, *, hit: int = 1) -> None:
    """A life that ends at a point, which it must reach."""
    _, code = case.live(point=point, hit=hit)
    assert code == KILLED, f"{point} was not reached: {code}"
    case.world.tally.of(fault).tried += 1
    case.check(fault, at=point)


def frozen_past_its_lease(world: World, points: Sequence[str]) -> None:
    """SIGSTOP, another runner takes over and works, SIGCONT: the old one writes nothing more."""
    fault = "owner frozen past its lease, then woken"
    for point in points:
        case = world.case()
        old = case.start(point=point, action="SIGSTOP", lease_s=1.0)
        old.wait_for(point)
        before = time.monotonic()
        while (result := case.live(lease_s=5.0))[1] == 5:  # owned, until the lease expires
            assert time.monotonic() - before < 30
        new, code = result
        assert code == 0, f"{fault} at {point}: {code}"
        case.check(fault)
        old.signal(signal.SIGCONT)
        assert world.launcher.wait(old) == 1, "an owner that lost its lease went on"
        world.tally.of(fault).tried += 1
        world.tally.of(fault).seconds += again(before, new)
        case.equals_its_twin(fault)


def two_at_once(world: World, times: int) -> None:
    """Two runners start at the same moment: one works, the other exits 5."""
    fault = "two resumers at the same moment"
    for i in range(times):
        case = world.case()
        case.live(point=("plan.after_commit", "verify.after_batch")[i % 2])
        before = time.monotonic()
        both = [case.start(), case.start()]
        codes = sorted(world.launcher.wait(runner) for runner in both)
        assert codes == [0, 5], codes
        world.tally.of(fault).tried += 1
        world.tally.of(fault).seconds += [s for r in both for s in again(before, r)]
        case.equals_its_twin(fault)


def wrong_clock(world: World) -> None:
    """The runner's wall clock jumps by a day, forwards and back; killed once in between."""
    fault = "runner's clock jumps a day"
    case = world.case()
    _, code = case.live(point="store_verdicts.after_commit", clock_jump_s=86400.0)
    assert code == KILLED
    _, code = case.live(clock_jump_s=86400.0)
    assert code == 0
    world.tally.of(fault).tried += 1
    case.equals_its_twin(fault)


def servers_clock_jumped(world: World) -> None:
    """The server's clock jumps an hour ahead under a living owner: still one writer at a time."""
    fault = "server's clock jumps an hour"
    case = world.case()
    old = case.start(pace_s=0.02)
    old.wait_for("store_responses.after_commit")
    with admin(world) as connection:
        connection.execute(
            "update archive.runs set lease_expires_at = lease_expires_at - interval '1 hour'"
            " where id = %s",
            (case.row.id,),
        )
    before = time.monotonic()
    new, code = case.live()
    assert (code, world.launcher.wait(old)) == (0, 1)
    world.tally.of(fault).tried += 1
    world.tally.of(fault).seconds += again(before, new)
    case.equals_its_twin(fault)


def sessions_ended(world: World, times: int) -> None:
    """All of the runner's database sessions are ended while it works; it goes on by itself."""
    fault = "database sessions ended (pg_terminate_backend)"
    for i in range(times):
        case = world.case()
        runner = case.start(pace_s=0.02)
        runner.wait_for(("store_responses.before_commit", "store_verdicts.before_commit")[i % 2])
        with admin(world) as connection:
            connection.execute(
                "select pg_terminate_backend(pid, 2000) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
        before = time.monotonic()
        assert world.launcher.wait(runner) == 0
        world.tally.of(fault).tried += 1
        world.tally.of(fault).seconds += again(before, runner)
        case.equals_its_twin(fault)


def postgres_killed(world: World, kill: Callable[[], None]) -> None:
    """SIGKILL of the embedded postmaster while a run works: the runner starts it and goes on."""
    fault = "Postgres killed (SIGKILL)"
    for point in ("store_responses.before_commit", "settle.before_commit"):
        case = world.case()
        runner = case.start(pace_s=0.02, embedded=True)
        runner.wait_for(point)
        kill()
        before = time.monotonic()
        assert world.launcher.wait(runner) == 0
        world.tally.of(fault).tried += 1
        world.tally.of(fault).seconds += again(before, runner)
        case.equals_its_twin(fault)


def full_disk(world: World) -> None:
    """The disk of the checkpoints is full; with room made, the run goes on."""
    fault = "full disk under the checkpoints"
    case = world.case()
    folder = world.home / "runs" / str(case.row.uuid)
    with small_disk(folder):
        (folder / "filler").write_bytes(bytes(60 << 10))
        _, code = case.live()
        assert code == 3, code
        case.check(fault)
        (folder / "filler").unlink()
        before = time.monotonic()
        runner, code = case.live()
        assert code == 0
        world.tally.of(fault).tried += 1
        world.tally.of(fault).seconds += again(before, runner)
        case.equals_its_twin(fault)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of 64 KiB at `folder`."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    subprocess.run(command, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def stopped_politely(world: World, number: signal.Signals, code: int, *, times: int) -> None:
    """SIGTERM or Ctrl-C to `eureka resume`, then `eureka resume` again."""
    fault = f"{number.name} to eureka"
    for i in range(times):
        case = world.case()
        runner = world.launcher.start(case.eureka(pace_s=0.02))
        runner.wait_for(("store_responses.before_commit", "settle.before_commit")[i % 2])
        before = time.monotonic()
        runner.signal(number)
        assert world.launcher.wait(runner) == code
        assert world.archive.run(case.row.id).state == "paused"
        case.check(fault)
        resumed, ended = world.launcher.live(case.eureka())
        assert ended == 0
        world.tally.of(fault).tried += 1
        world.tally.of(fault).seconds += again(before, resumed)
        case.equals_its_twin(fault)


def prefect_killed(world: World, kill: Callable[[], None], revive: Callable[[], object]) -> None:
    """SIGKILL of the Prefect server under `eureka resume`; then the server and the run again."""
    fault = "Prefect server killed (SIGKILL)"
    case = world.case()
    runner = world.launcher.start(case.eureka(pace_s=0.02))
    runner.wait_for("store_verdicts.after_commit")
    before = time.monotonic()
    kill()
    code = world.launcher.wait(runner)
    case.check(fault)
    revive()
    if code:
        runner, code = world.launcher.live(case.eureka())
    assert code == 0
    world.tally.of(fault).tried += 1
    world.tally.of(fault).seconds += again(before, runner)
    case.equals_its_twin(fault)


@contextmanager
def admin(world: World) -> Iterator[psycopg.Connection]:
    """A session beside the run's."""
    with psycopg.connect(world.url, autocommit=True) as connection:
        yield connection


def all_points(world: World) -> None:
    """Every named point of the program."""
    killed_at_points(world, POINTS)
