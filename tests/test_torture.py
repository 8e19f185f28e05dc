"""Runs that are killed, frozen, cut off and starved end as if nothing had happened."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eurekaflow.models import faultpoints, postgres, schema
from tests import faults, torture_servers
from tests.torture import World

ROOT = Path(__file__).resolve().parent.parent
# Transactions outside the stages of a run: a command's, or of what did not go well.
OTHERS = {"reconfigure", "restore_checkpoint", "abandon", "note_failure",
          "set_flow_run", "mark_step", "begin_policy", "discard_weights",
          "put_back"}  # fmt: skip
FREEZES = ("store_verdicts.before_commit", "verify.before_batch", "update.empty_staging",
           "publish.before_rename", "prune.before_removal")  # fmt: skip


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home with a Postgres of its own, which may be killed."""
    folder = Path(tempfile.mkdtemp(prefix="eurekaflow-torture-"))
    folder.chmod(0o755)
    with postgres.hold(folder):
        schema.bootstrap(postgres.ensure(folder).url)
        yield folder
    postgres.stop(folder, force=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def world(home: Path) -> Iterator[World]:
    made = World(postgres.ensure(home).url, home)
    yield made
    print(made.tally.table())  # pytest -s or -rP shows it
    made.close()


def named_in(folder: str) -> set[str]:
    """The points that the sources name: `reach("…")`, and a pair for each transaction."""
    names = set[str]()
    for path in (ROOT / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            last = node.args[-1]
            if called == "reach" and isinstance(last, ast.Constant):
                names.add(str(last.value))
            elif called == "_write":
                assert isinstance(last, ast.Constant), f"{path.name}: a transaction without a name"
                if last.value not in OTHERS:
                    names |= {f"{last.value}.{when}_commit" for when in ("before", "after")}
    return names


def test_the_list_of_points_is_what_the_sources_name() -> None:
    assert named_in("models") | named_in("tasks") == set(faultpoints.POINTS)


def test_a_point_calls_nobody_unless_a_test_has_armed_it() -> None:
    seen: list[str] = []
    faultpoints.arm(seen.append)
    faultpoints.reach("plan.after_commit")
    faultpoints.arm(None)
    faultpoints.reach("plan.before_commit")
    assert seen == ["plan.after_commit"]


@pytest.mark.services
@pytest.mark.slow
class TestKilled:
    """SIGKILL."""

    def test_every_named_point_is_reached_in_a_run(self, world: World) -> None:
        twin = world.twin(bundled=False)
        assert {name for _, name in faults.the_points(twin)} == set(faultpoints.POINTS)

    def test_at_every_named_point(self, world: World) -> None:
        faults.killed_at_points(world, faultpoints.POINTS)

    def test_at_random_instants(self, world: World) -> None:
        faults.killed_at_random(world, 20)

    def test_postgres_under_a_run(self, world: World, home: Path) -> None:
        faults.postgres_killed(world, lambda: torture_servers.kill_postgres(home))

    def test_between_saved_weights(self, world: World) -> None:
        faults.killed_between_saved_weights(world)

    def test_while_damaged_weights_are_replayed(self, world: World) -> None:
        faults.killed_while_replaying(world)

    def test_while_poisoned_work_is_given_up(self, world: World) -> None:
        faults.killed_while_giving_up(world)


@pytest.mark.services
@pytest.mark.slow
class TestOwnership:
    """Never two writers."""

    def test_two_resumers_at_the_same_moment(self, world: World) -> None:
        faults.two_at_once(world, 2)

    @pytest.mark.parametrize("point", FREEZES)
    def test_an_owner_frozen_past_its_lease(self, world: World, point: str) -> None:
        faults.frozen_past_its_lease(world, [point])

    def test_clocks_that_jump(self, world: World) -> None:
        faults.wrong_clock(world)
        faults.servers_clock_jumped(world)


@pytest.mark.services
@pytest.mark.slow
class TestStarved:
    """Sessions and space that go away."""

    def test_sessions_ended_under_a_run(self, world: World) -> None:
        faults.sessions_ended(world, 2)

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
    def test_a_full_disk(self, world: World) -> None:
        faults.full_disk(world)


@pytest.fixture(scope="module")
def command_line(home: Path, world: World) -> Iterator[World]:
    with torture_servers.command_line_world(home, world) as made:
        yield made


@pytest.mark.services
@pytest.mark.slow
class TestCommandLine:
    """What happens to `eureka` and its server."""

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_stopped_politely(
        self, command_line: World, number: signal.Signals, code: int
    ) -> None:
        faults.stopped_politely(command_line, number, code, times=1)

    def test_prefect_killed(self, command_line: World, home: Path) -> None:
        faults.prefect_killed(
            command_line,
            lambda: torture_servers.kill_prefect(home),
            lambda: torture_servers.revive_prefect(home),
        )


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.policy
@pytest.mark.timeout(1500)
def test_the_real_policy_killed_at_random_instants(
    home: Path, world: World, bundled_policy_folder: Path
) -> None:
    (home / "models").symlink_to(bundled_policy_folder.parent.parent)
    real = World(world.url, home, warmth="torch")
    real.tally = world.tally
    faults.killed_at_random(real, 3, bundled=True)
    real.close()
