"""Lost weights are made again from stored tokens: nothing is sampled or verified for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eurekaflow.models.archive import RunRow
from eurekaflow.models.errors import CheckpointDamaged
from eurekaflow.models.scripted import ScriptedPolicy
from eurekaflow.tasks import session
from eurekaflow.tasks.checkpoint import checkpoint, keep
from eurekaflow.tasks.restore import find, make_resident
from tests.trained_runs import DAMAGE, TREE, WEIGHTS, TrainedRuns, delete, flip, truncate

pytest_plugins = ("tests.archive_fixtures", "tests.trained_fixtures")
pytestmark = pytest.mark.services


def twins(runs: TrainedRuns) -> tuple[RunRow, RunRow]:
    """A run after its third step, and a twin that went to the fourth undisturbed."""
    run, twin = runs.add(), runs.add()
    runs.learn(run, 0, 1, 2)
    runs.learn(twin, 0, 1, 2, 3)
    return run, twin


CASES = [("scripted", which, break_) for which in ("newest", "all") for break_ in DAMAGE]
CASES += [("tiny", "newest", flip), ("tiny", "all", truncate)]


@pytest.mark.parametrize(("policy", "which", "break_"), CASES)
def test_a_run_with_damaged_checkpoints_goes_on_as_its_undisturbed_twin(
    request: pytest.FixtureRequest, policy: str, which: str, break_: Callable[[Path], None]
) -> None:
    runs: TrainedRuns = request.getfixturevalue(policy)
    run, twin = twins(runs)
    folders = runs.folders(run)
    for folder in folders[-1:] if which == "newest" else folders:
        break_(folder)
    runs.learn(run, 3)
    source = "the weights of step 1" if which == "newest" else "version 0"
    told = next(note for note in runs.notes if "replayed" in note)  # beside alarms of the gap
    assert DAMAGE[break_] in told
    assert f"replayed from {source}, without sampling" in told
    assert not [note for note in runs.notes if "not identical" in note]
    assert runs.content(run, WEIGHTS) == runs.content(twin, WEIGHTS)
    assert len({sha256 for _, sha256, _ in runs.content(run, WEIGHTS)}) == 4
    assert runs.content(run, TREE) == runs.content(twin, TREE)


def test_a_replay_samples_nothing_and_publishes_the_weights_again(
    scripted: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scripted.add()
    scripted.learn(run, 0, 1, 2)
    for folder in scripted.folders(run):
        delete(folder)
    monkeypatch.setattr(ScriptedPolicy, "sample", None)
    s = scripted.open(run)
    try:
        assert len(find(s, 3).replayed) == 3
        make_resident(s, 3)
        assert find(s, 3).replayed == ()
        assert not list(s.folder.glob("replay-*"))
    finally:
        session.close(str(run.uuid))
    assert [f.name for f in scripted.folders(run)] == ["00003-2"]
    assert scripted.archive.checkpoints(run.id)[-1].reason == "replayed from version 0"


def test_weights_that_come_out_otherwise_are_told_and_recorded(
    scripted: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scripted.add()
    scripted.learn(run, 0, 1)
    recorded = scripted.archive.checkpoints(run.id)[-1].sha256
    for folder in scripted.folders(run):
        delete(folder)
    fresh = ScriptedPolicy._fresh
    monkeypatch.setattr(  # as on another machine, where the first bit is already another
        ScriptedPolicy, "_fresh", lambda own: {k: v + 1e-9 for k, v in fresh(own).items()}
    )
    s = scripted.open(run)
    make_resident(s, 2)
    session.close(str(run.uuid))
    assert any("equivalent to the recorded ones, not identical" in n for n in scripted.notes)
    assert scripted.archive.checkpoints(run.id)[-1].sha256 != recorded


@pytest.mark.parametrize("policy", ["scripted", "tiny"])
def test_versions_that_are_not_saved_are_replayed_bit_for_bit(
    request: pytest.FixtureRequest, policy: str
) -> None:
    runs: TrainedRuns = request.getfixturevalue(policy)
    run, twin = runs.add(steps=6, checkpoint_every=3), runs.add(steps=6)
    runs.learn(twin, 0, 1, 2, 3, 4, 5)
    runs.learn(run, 0, 1)
    assert not runs.folders(run)
    reasons = [row.reason for row in runs.archive.checkpoints(run.id)]
    assert reasons == 2 * ["not saved: checkpoint_every is 3"]
    assert not [note for note in runs.notes if "replayed" in note]
    runs.learn(run, 2)  # in another session
    runs.learn(run, 3, commit=False)  # ends before the commit, with the update in no file
    runs.open(run)
    checkpoint.fn(str(run.uuid), 3)
    session.close(str(run.uuid))
    runs.learn(run, 4, 5)
    assert [note.split(", without")[0] for note in runs.notes if "replayed" in note] == [
        f"the weights of step 1 were {reasons[0]}; the 2 updates are replayed from version 0",
        f"the weights of step 3 were {reasons[0]}; the update is "
        "replayed from the weights of step 2",
    ]
    assert not [note for note in runs.notes if "not identical" in note]
    assert [row[:2] for row in runs.content(run, WEIGHTS)] == [
        row[:2] for row in runs.content(twin, WEIGHTS)
    ]
    assert runs.content(run, TREE) == runs.content(twin, TREE)
    newest = runs.archive.checkpoints(run.id)[-1]
    assert (newest.step, newest.state) == (5, "kept")


def test_the_last_planned_version_is_saved(scripted: TrainedRuns) -> None:
    run = scripted.add(steps=2, checkpoint_every=8)
    scripted.learn(run, 0, 1)
    assert [row.state for row in scripted.archive.checkpoints(run.id)] == ["pruned", "kept"]


def test_a_run_that_ends_leaves_its_newest_version_on_disk(scripted: TrainedRuns) -> None:
    run, twin = scripted.add(checkpoint_every=8), scripted.add()
    scripted.learn(twin, 0, 1)
    scripted.learn(run, 0, before_end=keep)
    scripted.learn(run, 1, before_end=keep)
    assert not [note for note in scripted.notes if "replayed" in note]
    assert scripted.content(run, WEIGHTS) == scripted.content(twin, WEIGHTS)
    s = scripted.open(run)
    assert find(s, 2).replayed == ()
    keep(s)  # nothing is resident: nothing to do
    session.close(str(run.uuid))


def test_a_disk_without_room_for_the_newest_version_is_told_and_ends_nothing(
    scripted: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(own: ScriptedPolicy, staging: Path) -> dict[str, str]:
        raise OSError(28, "No space left on device")

    run = scripted.add(checkpoint_every=8)
    monkeypatch.setattr(ScriptedPolicy, "save", full)
    scripted.learn(run, 0, before_end=keep)
    assert "No space left on device" in scripted.notes[-1]
    assert scripted.archive.checkpoints(run.id)[-1].state == "pruned"


def test_weights_that_are_resident_are_not_read_again(
    scripted: TrainedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scripted.add()
    monkeypatch.setattr("eurekaflow.tasks.restore.check", None)
    scripted.learn(run, 0, 1, 2)
    assert not scripted.notes


@pytest.mark.parametrize("break_", [delete, truncate, flip], ids=lambda f: f.__name__)
def test_staged_weights_that_are_damaged_before_the_commit_are_made_again(
    scripted: TrainedRuns, break_: Callable[[Path], None]
) -> None:
    twin, run = scripted.add(), scripted.add()
    scripted.learn(twin, 0, 1)
    scripted.learn(run, 0)
    scripted.learn(run, 1, commit=False)
    s = scripted.open(run)
    [staged] = s.folder.glob("staging-1-*")
    break_(staged)
    checkpoint.fn(str(run.uuid), 1)
    session.close(str(run.uuid))
    assert "the update is repeated" in scripted.notes[0]
    assert scripted.content(run, WEIGHTS) == scripted.content(twin, WEIGHTS)


def test_without_tokens_a_replay_refuses_and_names_the_way_on(scripted: TrainedRuns) -> None:
    run = scripted.add()
    scripted.learn(run, 0)
    s = scripted.open(run)
    try:
        scripted.archive.discard_weights(s.hold, "a test", tokens=True)
        with pytest.raises(CheckpointDamaged, match="tokens were discarded") as refusal:
            make_resident(s, 1)
        assert "--fresh-policy" in refusal.value.fix
    finally:
        session.close(str(run.uuid))


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"keep_checkpoints": 1}, [7]),
        ({"keep_checkpoints": 2, "keep_every": 3}, [3, 6, 7]),
        ({"keep_checkpoints": 1, "keep_best": True}, [1, 7]),
    ],
)
def test_retention_keeps_what_the_settings_say_and_records_why_others_went(
    scripted: TrainedRuns, settings: dict[str, Any], kept: list[int]
) -> None:
    run = scripted.add(**settings)
    scripted.learn(run, *range(7))
    rows = scripted.archive.checkpoints(run.id)
    assert [row.version for row in rows if row.state == "kept"] == kept
    assert [int(f.name[:5]) for f in scripted.folders(run)] == kept
    assert all("not among the newest" in row.reason for row in rows if row.state == "pruned")
    told = "select weights, weights_reason <> '' from steps where run_id = %s order by step"
    pruned = scripted.archive.query(told, params=(run.id,))[1]
    assert pruned.count(("pruned", True)) == 7 - len(kept)
