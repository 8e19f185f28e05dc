"""A run's starting points: measured where that is this machine's, and once."""

from __future__ import annotations

from pathlib import Path

import pytest

from eurekaflow.models import schema
from eurekaflow.models.archive import Archive
from eurekaflow.tasks import session
from eurekaflow.tasks.seed import seed
from eurekaflow.verifiers.contest_trial import Trial
from eurekaflow.verifiers.gpu_problem import START_VALUE, Kernel
from eurekaflow.verifiers.problem import Outcome, Verdict
from eurekaflow.verifiers.sandbox import Cause, Execution
from tests.scripted_run import add_run, place

pytestmark = pytest.mark.services


@pytest.mark.parametrize(
    ("times", "values"),
    [
        ([-5576.0, -1150.0], [START_VALUE, -5576.0, -1150.0]),
        ([None, -1150.0], [START_VALUE, START_VALUE, -1150.0]),
    ],
    ids=["both are right", "one is refused"],
)
def test_a_kernels_starts_are_measured_once_and_no_code_is_not(
    times: list[float | None],
    values: list[float],
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = iter(times)

    def try_out(self: Kernel, program: str) -> Trial:
        assert program
        value = next(left)
        outcome = Outcome.INVALID if value is None else Outcome.VALID
        return Trial(
            verdict=Verdict(outcome=outcome, value=value),
            execution=Execution(cause=Cause.RETURNED),
        )

    monkeypatch.setattr(Kernel, "try_out", try_out)
    monkeypatch.setattr(Kernel, "require", lambda self: None)
    schema.bootstrap(database_url)
    run = add_run(database_url, problem="trimul", groups=3, brief=False)
    session.configure(place(database_url, tmp_path))
    seed.fn(str(run.uuid))
    seed.fn(str(run.uuid))  # a resumed run
    session.close(str(run.uuid))
    archive = Archive(database_url)
    _, found = archive.query("select value from attempts where outcome = 'seed' order by seq")
    archive.close()
    assert [value for (value,) in found] == values
