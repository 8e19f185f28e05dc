"""The report that a run leaves says how the run really stands, whatever ended it."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from markdown_it import MarkdownIt
from prefect.artifacts import LinkArtifact

from eurekaflow.flows import artifacts, launch, sitting
from eurekaflow.flows.configure import Surroundings
from eurekaflow.models import schema
from eurekaflow.models.archive import Archive
from eurekaflow.tasks import session
from eurekaflow.tasks.session import Event, Place
from tests.scripted_run import STAGES, add_run, place

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("warm_sandbox")]
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
    monkeypatch.setattr(artifacts, "create_link_artifact", lambda **_: None)
    monkeypatch.setattr(sitting, "PREFECT_TRIALS", 1)
    return found


@pytest.fixture
def linked(shown: list[str], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What the run's link artifacts are made of."""
    found: list[dict[str, str]] = []
    monkeypatch.setattr(artifacts, "create_link_artifact", lambda **made: found.append(made))
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


def test_a_run_links_the_page_that_it_wrote(
    archive: Archive,
    tmp_path: Path,
    linked: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "__a__ (home) [of] *mine*"  # what markdown would read as its own
    run = work(archive, place(archive.url, home), monkeypatch, steps=1)
    [page] = (home / "reports").glob("*.html")
    [made] = linked
    assert made["key"] == f"report-page-{run[:8]}"
    artifact = LinkArtifact(link=made["link"], link_text=made["link_text"], key=made["key"])
    viewer = MarkdownIt("commonmark")
    viewer.validateLink = lambda url: True  # type: ignore[method-assign]
    rendered = viewer.render(str(artifact.format()))
    [(link, words)] = re.findall(r'<a href="([^"]+)">([^<]+)</a>', rendered)
    assert link == words == page.as_uri()
    assert Path(unquote(urlparse(link).path)) == page


def test_a_fault_of_prefect_costs_the_link_and_is_noted_but_the_page_is_there(
    archive: Archive, tmp_path: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(**_: object) -> None:
        raise OSError("no server")

    monkeypatch.setattr(artifacts, "create_link_artifact", breaks)
    events: list[Event] = []
    where = replace(place(archive.url, tmp_path), listener=events.append)
    run = work(archive, where, monkeypatch, steps=1)
    assert archive.run(run).state == "finished"
    assert f"run {run}, finished, " in page(tmp_path)
    notes = [event.metrics["text"] for event in events if event.kind == "note"]
    assert notes == ["the report is not on Prefect's page: no server"]


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
