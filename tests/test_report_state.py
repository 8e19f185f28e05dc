"""The report that a run leaves says how the run really stands, whatever ended it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eurekaflow.flows import artifacts, launch, sitting
from eurekaflow.flows.configure import Surroundings
from eurekaflow.models import schema
from eurekaflow.models.archive import Archive
from eurekaflow.tasks import session
from eurekaflow.tasks.session import Place
from tests.scripted_run import STAGES, add_run, place

pytestmark = pytest.mark.services
discover = importlib.import_module("eurekaflow.flows.discover")  # the name is also the flow's


@pytest.fixture
def archive(database_url: str) -> Iterator[Archive]:
    schema.bootstrap(database_url)
    opened = Archive(database_url)
    yield opened
    opened.close()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The flow's body without Prefect; what its report would show there."""
    found: list[str] = []
    monkeypatch.setattr(discover, "STAGES", {name: task.fn for name, task in STAGES.items()})
    monkeypatch.setattr(discover, "seed", discover.seed.fn)
    monkeypatch.setattr(artifacts, "_publish", lambda *_: None)
    monkeypatch.setattr(
        artifacts, "create_markdown_artifact", lambda markdown, **_: found.append(markdown)
    )
    monkeypatch.setattr(sitting, "PREFECT_TRIALS", 1)
    return found


def page(home: Path) -> str:
    [found] = (home / "reports").glob("*.md")
    return found.read_text()


def work(archive: Archive, where: Place, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> str:
    """`launch.work` on a new run, its flow's body called directly."""
    run_id = str(add_run(archive.url, **settings).uuid)
    monkeypatch.setattr(launch, "place", lambda *_: where)
    monkeypatch.setattr(launch, "orchestrated", lambda s: discover.discover.fn(run_id))
    here = Surroundings(home=where.home)
    launch.work(run_id, here, archive.url, lambda event: None)
    return run_id


def test_a_run_paused_by_its_deadline_says_so(
    archive: Archive, tmp_path: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = replace(place(archive.url, tmp_path), deadline=time.time() - 1)
    run = work(archive, where, monkeypatch)
    assert f"run {run}, paused by the rule deadline," in page(tmp_path)
    assert "the deadline is passed" in page(tmp_path)
    assert "paused by the rule deadline" in shown[0]


def test_a_run_at_the_end_of_its_steps_is_finished_and_its_charts_are_in_the_artifact(
    archive: Archive, tmp_path: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = work(archive, place(archive.url, tmp_path), monkeypatch, steps=1)
    assert f"run {run}, finished, " in page(tmp_path)
    assert shown[0].count("](data:image/svg+xml;base64,") > 5
    assert f"reports/report-{run[:8]}.html" in shown[0]
    assert "file:" not in shown[0]
    assert archive.run(run).state == "finished"


@pytest.mark.parametrize(
    ("error", "state"), [(OSError("the disk is gone"), "failed"), (KeyboardInterrupt(), "paused")]
)
def test_a_run_that_is_broken_off_leaves_a_page_too(
    archive: Archive,
    tmp_path: Path,
    shown: list[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    state: str,
) -> None:
    def breaks(*_: object) -> None:
        raise error

    monkeypatch.setattr(discover, "conclude", breaks)
    with pytest.raises(type(error)):
        work(archive, place(archive.url, tmp_path), monkeypatch, steps=1)
    assert f", {state}, " in page(tmp_path)
    session._sessions.clear()
