"""A step whose update cannot be done is left untrained and told; the run goes on."""

from __future__ import annotations

from typing import Any

import pytest

from eurekaflow.flows.diagnosis import diagnose
from eurekaflow.models.errors import DeviceUnavailable
from eurekaflow.models.scripted import ScriptedPolicy
from eurekaflow.tasks import session
from eurekaflow.tasks.checkpoint import checkpoint
from eurekaflow.tasks.poison import StepStuck
from eurekaflow.tasks.update import update
from tests.trained_runs import TrainedRuns

pytest_plugins = ("tests.archive_fixtures", "tests.trained_fixtures")
pytestmark = pytest.mark.services


class Faults:
    """Errors for the updates to come, then none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> None:
        self.errors, self.real = list(errors), ScriptedPolicy.update

        def update(own: ScriptedPolicy, *given: Any) -> Any:
            if self.errors:
                raise self.errors.pop(0)
            return self.real(own, *given)

        monkeypatch.setattr(ScriptedPolicy, "update", update)


def test_an_update_that_fails_twice_alike_leaves_its_step_untrained_and_the_next_one_trains(
    scripted: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scripted.add()
    scripted.learn(run, 0)
    faults = Faults(monkeypatch, ValueError("not finite"), ValueError("not finite"))
    scripted.learn(run, 1, 2)
    assert faults.errors == []
    assert [row.step for row in scripted.archive.checkpoints(run.id)] == [0, 2]
    assert [row.stage for row in scripted.archive.step_rows(run.id)] == ["committed"] * 3
    trained = "select trained from archive.groups where run_id = %s order by step"
    assert scripted.content(run, trained) == [(True,), (False,), (True,)]
    assert any("failed twice" in note for note in scripted.notes)
    failures = scripted.content(
        run, "select metrics->'failures' from archive.steps where run_id = %s and step = 1"
    )[0][0]
    assert failures == {"update: ValueError: not finite": 2}
    said = diagnose({"run": run.uuid}, [{"step": 1, "failures": failures}])
    assert said == ["step 1 failed 2 times: update: ValueError: not finite; it trained nothing"]


def test_an_update_that_fails_once_is_made_again_from_the_same_weights(
    scripted: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, twin = scripted.add(), scripted.add()
    scripted.learn(twin, 0, 1)
    scripted.learn(run, 0)
    Faults(monkeypatch, ValueError("not finite"))
    scripted.learn(run, 1)
    sums = "select step, sha256 from archive.checkpoints where run_id = %s order by step"
    assert scripted.content(run, sums) == scripted.content(twin, sums)


def test_a_device_that_fails_blames_no_step_and_costs_no_training(
    scripted: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scripted.add()
    Faults(monkeypatch, *[MemoryError("no room")] * 2)
    for _ in range(2):
        with pytest.raises(DeviceUnavailable):
            scripted.learn(run, 0)
    scripted.learn(run, 0)
    assert [row.step for row in scripted.archive.checkpoints(run.id)] == [0]


def test_a_second_step_running_that_cannot_be_trained_stops_the_run_once(
    scripted: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scripted.add()
    faults = Faults(monkeypatch, *[ValueError("wrong device")] * 5)
    scripted.learn(run, 0)
    with pytest.raises(StepStuck, match="two steps running"):
        scripted.learn(run, 1)
    assert not list(scripted.home.glob("runs/*/staging-*"))
    scripted.open(run)
    try:  # what a resume does
        update.fn(str(run.uuid), 1)
        checkpoint.fn(str(run.uuid), 1)
    finally:
        session.close(str(run.uuid), "paused")
    assert faults.errors == []
    scripted.learn(run, 2)
    assert [row.step for row in scripted.archive.checkpoints(run.id)] == [2]
