"""A run on somebody else's folder: it trains, and every report says whose word the scores are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eurekaflow.flows import report
from eurekaflow.flows.launch import create
from eurekaflow.flows.provenance import provenance
from eurekaflow.flows.report_text import markdown
from eurekaflow.flows.trust import FOREIGN
from eurekaflow.models import schema
from eurekaflow.models.archive import Archive
from eurekaflow.models.errors import UsageError
from eurekaflow.models.questions import BEST, RUN, RUNS, ask
from eurekaflow.models.settings import RunConfig
from eurekaflow.tasks import session
from tests.scripted_run import SIZES, work

pytestmark = [pytest.mark.services, pytest.mark.slow]
FOLDER = Path(__file__).parent / "foreign" / "alarm_timeout"
ANSWERS = (
    "def approximate():\n    return 3.1415\n```",
    "def approximate():\n    return nothing\n```",
    "def approximate():\n    return 22 / 7\n```",
    "I cannot",
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("answers") / "answers.json"
    file.write_text(json.dumps(ANSWERS))
    return file


@pytest.fixture
def finished(database_url: str, tmp_path: Path, answers: Path) -> Iterator[tuple[Archive, str]]:
    """The archive with a run of one step on the folder, and the run's uuid."""
    schema.bootstrap(database_url)
    sizes = {**SIZES, "groups": 1, "group_size": 8, "wave": 8, "steps": 1, "max_new_tokens": 60}
    config = RunConfig.model_validate(
        {**sizes, "problem": str(FOLDER), "model": f"scripted:{answers}"}
    )
    archive = Archive(database_url)
    run = str(create(archive, config).uuid)
    session.configure(session.Place(home=tmp_path, database_url=database_url))
    try:
        work(run)
        yield archive, run
    finally:
        session.close(run, "finished")
        archive.close()


def test_the_run_is_marked_foreign_everywhere_and_claims_nothing(
    finished: tuple[Archive, str],
) -> None:
    archive, run = finished
    (row,), (best,), (listed,) = (
        named(*ask(archive.url, question, run=run, ref=run, limit=1))
        for question in (RUN, BEST, RUNS)
    )
    assert {row["trust"], best["trust"], listed["trust"]} == {"foreign"}
    board = archive.query("select trust from leaderboard where kind = 'ours'")[1]
    assert board == [("foreign",)]
    assert -1e-4 < best["score"] < 0
    whole = best["program"]
    assert "return 3.1415" in whole
    assert whole.startswith('"""Tell how close')
    assert whole.rstrip().endswith("print(approximate())")
    made = report.of_run(archive.url, run)
    assert made.foreign
    assert "Foreign evaluator" in made.html()
    assert FOREIGN in markdown(made)
    assert provenance(best, row, None, Path("best.py"))["trust"] == FOREIGN
    with pytest.raises(UsageError, match="nothing can be claimed"):
        archive.add_claim(
            best["attempt"], verifier_version="1", mode="exact", value=1.0, hardware={}
        )
    prompts = archive.query("select distinct prompt from attempt_bodies where prompt <> ''")[1]
    assert all("def approximate" in p and "print(approximate())" not in p for (p,) in prompts)
    outcomes = dict(archive.query("select outcome, count(*) from attempts group by 1")[1])
    assert outcomes["valid"] > 0
    assert set(outcomes) <= {"seed", "valid", "invalid", "unparseable"}


def named(columns: list[str], rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in rows]
