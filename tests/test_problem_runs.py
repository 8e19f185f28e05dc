"""Three steps on each problem with the bundled policy, small: no infrastructure error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eurekaflow.models import schema
from eurekaflow.models.archive import Archive
from eurekaflow.models.local import LocalPolicy
from eurekaflow.tasks import session
from tests.scripted_run import add_run, work

pytestmark = [pytest.mark.long, pytest.mark.services, pytest.mark.policy, pytest.mark.slow]


class Shared(LocalPolicy):
    """A policy that outlives a run: one copy of the weights for all tests of the module."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def policy(bundled_policy_folder: Path) -> Iterator[LocalPolicy]:
    shared = Shared(bundled_policy_folder, lora_rank=32, lora_alpha=32.0, seed=0, threads=2)
    yield shared
    LocalPolicy.close(shared)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["ac1", "ac2", "circle-packing-32", "denoising", "sql-query"])
def test_three_steps_end_without_an_infrastructure_error(
    name: str, policy: LocalPolicy, database_url: str, open_home: Path
) -> None:
    schema.bootstrap(database_url)
    sizes = {"groups": 1, "group_size": 4, "wave": 4, "micro_batch": 4, "max_new_tokens": 24}
    run = add_run(database_url, problem=name, window=2048, lr=5e-5, **sizes)
    session.configure(
        session.Place(home=open_home, database_url=database_url, make_policy=lambda *_: policy)
    )
    try:
        work(str(run.uuid))
    finally:
        session.close(str(run.uuid), "finished")
    archive = Archive(database_url)
    try:
        steps = archive.query("select stage from archive.steps", as_reader=False)[1]
        outcomes = archive.query("select outcome from attempts where step >= 0")[1]
        draws = archive.query("select count(*) from attempts where outcome = 'seed'")[1][0][0]
    finally:
        archive.close()
    assert steps == [("committed",)] * 3
    assert len(outcomes) == 12
    assert all(outcome and outcome != "lost" for (outcome,) in outcomes)
    assert any(outcome == "valid" for (outcome,) in outcomes)
    assert draws > 1 if name.startswith("ac") else draws == 1  # a chosen seed is drawn anew
