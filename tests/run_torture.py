"""The long torture: many random kills, with the scripted and with the bundled policy.

    python -m tests.run_torture [--instants 200] [--bundled 20] [--seed 1]

prints the table of faults as markdown; ends with an error at the first lost, doubled or changed
attempt and at the first run that does not end as its undisturbed twin.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import tempfile
from pathlib import Path

from eurekaflow.flows.configure import surroundings
from eurekaflow.models import postgres, schema
from eurekaflow.models.faultpoints import POINTS
from eurekaflow.models.weights import resolve_model
from tests import faults, torture_servers
from tests.torture import World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instants", type=int, default=200)
    parser.add_argument("--bundled", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="eurekaflow-torture-"))
    home.chmod(0o755)
    try:
        with postgres.hold(home):
            torture(home, wanted.instants, wanted.bundled, wanted.seed)
    finally:
        postgres.stop(home, force=True)
        shutil.rmtree(home, ignore_errors=True)


def torture(home: Path, instants: int, bundled: int, seed: int) -> None:
    cluster = postgres.ensure(home)
    schema.bootstrap(cluster.url)
    world = World(cluster.url, home)
    try:
        faults.killed_at_points(world, POINTS)
        faults.killed_between_saved_weights(world)
        faults.killed_while_replaying(world)
        faults.killed_while_giving_up(world)
        faults.killed_at_random(world, instants, seed=seed)
        faults.two_at_once(world, 10)
        freezes = ("store", "publish", "update", "prune")
        faults.frozen_past_its_lease(world, [p for p in POINTS if p.startswith(freezes)])
        faults.wrong_clock(world)
        faults.servers_clock_jumped(world)
        faults.sessions_ended(world, 10)
        if os.geteuid() == 0:
            faults.full_disk(world)
        faults.postgres_killed(world, lambda: torture_servers.kill_postgres(home))
        through_the_command(world, home)
        if bundled:
            with_the_real_policy(world, bundled, seed)
    finally:
        print(world.tally.table())
        world.close()


def through_the_command(world: World, home: Path) -> None:
    """Signals to `eureka`, and its Prefect server killed."""
    with torture_servers.command_line_world(home, world) as made:
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            faults.stopped_politely(made, number, code, times=2)
        faults.prefect_killed(
            made,
            lambda: torture_servers.kill_prefect(home),
            lambda: torture_servers.revive_prefect(home),
        )


def with_the_real_policy(world: World, times: int, seed: int) -> None:
    models = surroundings().home / "models"
    resolve_model("bundled", models, progress=print)
    (world.home / "models").symlink_to(models)
    real = World(world.url, world.home, warmth="torch")
    real.tally = world.tally
    try:
        faults.killed_at_points(real, faults.STAGE_ENDS, bundled=True)
        faults.killed_at_random(real, times, seed=seed, bundled=True)
    finally:
        real.close()


if __name__ == "__main__":
    main()
