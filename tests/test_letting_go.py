"""A resume that cannot begin leaves the run as it was, whoever has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eurekaflow.flows import cli, launch
from eurekaflow.flows.configure import Surroundings
from eurekaflow.flows.standing import Goals
from eurekaflow.models.archive import Archive, RunRow
from eurekaflow.models.errors import RunOwned, UsageError
from tests.scripted_run import add_run

pytest_plugins = ("tests.archive_fixtures",)
pytestmark = pytest.mark.services
RULE, FIGURES = "target", "0.7 meets the target 0.5"


@pytest.fixture
def here(archive: Archive, tmp_path: Path) -> Surroundings:
    return Surroundings(
        home=tmp_path, database_url=archive.url, prefect_api_url="http://127.0.0.1:1/api"
    )


@pytest.fixture
def ended(archive: Archive) -> RunRow:
    """A finished run of one step, ended by a rule."""
    run = add_run(archive.url, steps=1)
    with archive.hold(run.id, owner="the test") as hold:
        archive.finish(hold, "finished", FIGURES, rule=RULE)
    return archive.run(run.id)


def standing(archive: Archive, run: RunRow) -> tuple[Any, ...]:
    now = archive.run(run.id)
    return now.state, now.message, now.ended_by, now.finished_at


def told(_: object) -> None:
    """Nobody watches."""


def test_a_refused_process_never_fails_the_run_of_another(
    archive: Archive, here: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, hold, refused = add_run(archive.url), Archive.hold, list[bool]()

    def owned_at_first(own: Archive, run_id: int, **values: Any) -> Any:
        if not refused:  # the owner has it now, and gives it back a moment later
            refused.append(True)
            raise RunOwned("run 1 is owned by another")
        return hold(own, run_id, **values)

    monkeypatch.setattr(Archive, "hold", owned_at_first)
    with pytest.raises(RunOwned):
        launch.work(str(run.uuid), here, archive.url, told)
    now = archive.run(run.id)
    assert (now.state, now.epoch) == ("created", 0)


@pytest.mark.parametrize("goals", [Goals(model="another"), Goals(steps=-3)])
def test_a_wish_that_cannot_be_does_not_even_take_the_run(
    archive: Archive, here: Surroundings, ended: RunRow, goals: Goals
) -> None:
    with pytest.raises(UsageError):
        launch.resume(str(ended.uuid), here, goals=goals, listener=told)
    assert archive.run(ended.id) == ended


def test_a_mistake_found_once_the_run_is_taken_gives_it_its_old_state(
    archive: Archive, here: Surroundings, ended: RunRow
) -> None:
    def mistaken(_: object) -> None:
        raise UsageError("no such thing")

    with pytest.raises(UsageError):
        launch.work(str(ended.uuid), here, archive.url, told, before=mistaken)
    assert standing(archive, ended) == ("finished", FIGURES, RULE, ended.finished_at)
    assert archive.run(ended.id).owner is None


def test_a_failure_is_still_written_on_the_run(
    archive: Archive, here: Surroundings, ended: RunRow
) -> None:
    def broken(_: object) -> None:
        raise OSError("the device is gone")

    with pytest.raises(OSError, match="gone"):
        launch.work(str(ended.uuid), here, archive.url, told, before=broken)
    assert standing(archive, ended)[:2] == ("failed", "the device is gone")


def test_discarding_the_policy_keeps_why_the_run_ended(
    archive: Archive, here: Surroundings, ended: RunRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EUREKA_HOME", str(here.home))
    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    assert cli.main(["discard-policy", str(ended.uuid)]) == 0
    assert standing(archive, ended) == ("finished", FIGURES, RULE, ended.finished_at)
    assert archive.run(ended.id).discarded_at is not None
