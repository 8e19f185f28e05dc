"""`eureka report RUN --compare FILE`: other constructions beside the best one, or a clear no."""

from __future__ import annotations

import json
import re
import signal
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eurekaflow.flows import cli, report
from eurekaflow.models.archive import Archive
from tests.archives import new_run, planned, sample, seeds, settle, verdict
from tests.report_reading import asked, figures

pytest_plugins = ("tests.archive_fixtures",)

OURS = [0.25, 0.75, 0.5, 0.5]
DISCS = [[0.25, 0.25, 0.25], [0.75, 0.75, 0.2]]


@pytest.fixture
def home(tmp_path: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder of its own; the commands look at the test's archive."""
    monkeypatch.setenv("EUREKA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EUREKA_DATABASE_URL", archive.url)
    previous = signal.getsignal(signal.SIGTERM)
    yield tmp_path / "home"
    signal.signal(signal.SIGTERM, previous)


def searched(archive: Archive, problem: str, construction: Sequence[object] | None) -> str:
    """A run of a problem whose one valid attempt has this construction; its uuid."""
    run = new_run(archive, problem=problem)
    with archive.hold(run.id, owner="the test") as hold:
        archive.add_seeds(hold, seeds(-1.0))
        [seed] = (row.id for row in archive.attempts(run.id, -1))
        sample(archive, hold, archive.plan(hold, 0, [planned(seed, size=1)]))
        [attempt] = (row.id for row in archive.attempts(run.id, 0))
        array = None if construction is None else np.array(construction, dtype=np.float64)
        found = replace(verdict(attempt, -0.5), construction=array)
        archive.store_verdicts(hold, 0, [found])
        settle(archive, hold, 0)
        archive.commit_step(hold, 0)
    return str(run.uuid)


def written(folder: Path, name: str, content: object) -> str:
    """The path of a JSON file."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return str(path)


def heights(svg: str) -> list[list[float]]:
    """The pieces of every step function in a picture, as shares of the picture's height."""
    root = ET.fromstring(svg)
    [axis] = [p.attrib["d"] for p in root.iter("path") if p.get("class") == "axis"]
    top, bottom = (float(n) for n in re.findall(r"[0-9.]+", axis)[1:3])
    curves = [p.attrib["d"] for p in root.iter("path") if "line" in p.attrib["class"]]
    places = [re.findall(r"[ML][0-9.]+ ([0-9.]+)H", curve) for curve in curves]
    return [[(bottom - float(y)) / (bottom - top) for y in ys] for ys in places]


@pytest.mark.services
def test_the_page_draws_a_files_construction_over_the_runs_with_both_names(
    home: Path, archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = searched(archive, "erdos", OURS)
    theirs = written(tmp_path, "theirs <1>.json", [0.0, 1.0])
    assert cli.main(["report", run[:8], "--compare", theirs]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page == home / f"reports/report-{run[:8]}.html"
    [(_, svg)] = figures(page.read_text(), "best-answer")
    names = [text.text for text in ET.fromstring(svg).iter("text")]
    assert names[:2] == ["theirs <1>", f"run {run[:8]}, 0.5"]
    [best] = asked(archive.url, run)["Best answer"]
    assert best["construction"] == OURS
    curves = [[0.0, 1.0], best["construction"]]
    assert heights(svg) == [pytest.approx(curve, abs=0.001) for curve in curves]


@pytest.mark.services
@pytest.mark.parametrize(
    ("problem", "ours", "theirs", "told"),
    [
        ("erdos", OURS, DISCS, "theirs cannot be drawn as erdos's"),
        ("cp26", DISCS, OURS, "theirs cannot be drawn as circle-packing-26's"),
        ("cp26", DISCS, [[0.5, 0.5]], "rows of 2 numbers instead of 3"),
        ("erdos", OURS, {"h": OURS}, "theirs.json holds no construction"),
        ("erdos", None, OURS, "no picture to compare with"),
    ],
)
def test_what_cannot_be_compared_is_told_and_nothing_is_written(
    problem: str, ours: Sequence[object] | None, theirs: object, told: str,
    home: Path, archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = searched(archive, problem, ours)
    file = written(tmp_path, "theirs.json", theirs)
    assert cli.main(["report", run, "--compare", file]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert "Traceback" not in err
    assert not list(home.rglob("report*"))


@pytest.mark.services
def test_a_page_that_is_there_stays_when_a_comparison_is_refused(
    home: Path, archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = searched(archive, "erdos", OURS)
    assert cli.main(["report", run]) == 0
    before = {path: path.read_bytes() for path in home.rglob("report-*")}
    assert len(before) == 2
    assert cli.main(["report", run, "--compare", written(tmp_path, "discs.json", DISCS)]) == 2
    assert {path: path.read_bytes() for path in home.rglob("report-*")} == before


def test_two_files_of_one_name_are_both_compared_with(tmp_path: Path) -> None:
    files = [Path(written(tmp_path, f"{folder}/best.json", [0.5])) for folder in "ab"]
    assert list(report.constructions(files)) == ["best", str(files[1])]
