"""`export --adapter`, `discard-policy`, `db backup` and `db restore`: what goes, what stays."""

from __future__ import annotations

import json
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import safetensors.torch as st
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from eurekaflow.flows import cli
from eurekaflow.models import adapter_files, postgres, schema
from eurekaflow.models.archive import Archive, RunRow, VerdictRow
from eurekaflow.tasks import session
from eurekaflow.tasks.checkpoint import checkpoint
from eurekaflow.tasks.restore import find, make_resident
from eurekaflow.tasks.update import update
from tests.archives import planned_step, response, settle
from tests.trained_runs import TREE, WEIGHTS, TrainedRuns, delete

pytest_plugins = ("tests.archive_fixtures", "tests.trained_fixtures")
pytestmark = pytest.mark.services


@pytest.fixture(autouse=True)
def _here(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, archive.url, tmp_path)


def use(monkeypatch: pytest.MonkeyPatch, url: str, home: Path) -> None:
    monkeypatch.setenv("EUREKA_DATABASE_URL", url)
    monkeypatch.setenv("EUREKA_HOME", str(home))


@pytest.fixture
def elsewhere(cluster: postgres.Cluster) -> Iterator[str]:
    """An empty database, as on another machine."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(f"create database {name} template template0")
        yield cluster.url_of(name)
        connection.execute(f"drop database {name} with (force)")


def solved(runs: TrainedRuns, value: float) -> RunRow:
    """A run with one trained step whose best attempt is the flat construction, of score 0.5."""
    run = runs.add()
    s = runs.open(run)
    ids = planned_step(runs.archive, s.hold)
    runs.archive.store_responses(s.hold, 0, 0, [response(slot) for slot in range(4)])
    failed = [VerdictRow(attempt_id=i, outcome="raised") for i in ids[1:]]
    answer = VerdictRow(
        attempt_id=ids[0],
        outcome="valid",
        value=value,
        reward=1 / -value,
        program="def run(): ...",
        construction=np.full(8, 0.5),
    )
    runs.archive.store_verdicts(s.hold, 0, [answer, *failed])
    settle(runs.archive, s.hold, 0)
    update.fn(str(run.uuid), 0)
    checkpoint.fn(str(run.uuid), 0)
    session.close(str(run.uuid), "finished")
    return run


def test_an_exported_adapter_is_what_peft_loads(
    tiny: TrainedRuns, tiny_folder: Path, tmp_path: Path
) -> None:
    run = tiny.add()
    tiny.learn(run, 0, 1)
    out = tmp_path / "out"
    assert cli.main(["export", str(run.uuid), "--adapter", str(out)]) == 0
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, str(out)).state_dict()
    stored = st.load_file(tiny.folders(run)[-1] / adapter_files.ADAPTER)
    changed = 0
    for name, tensor in stored.items():
        inside = name.replace("lora_A.weight", "lora_A.default.weight")
        inside = inside.replace("lora_B.weight", "lora_B.default.weight")
        assert torch.equal(loaded[inside], tensor)
        changed += bool(tensor.any()) and "lora_B" in name
    assert changed


def test_an_export_never_overwrites_a_folder(tiny: TrainedRuns, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert cli.main(["export", str(tiny.add().uuid), "--adapter", str(tmp_path / "out")]) == 2
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_discarding_saves_and_verifies_the_answer_and_frees_the_weights_alone(
    scripted: TrainedRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    run = solved(scripted, -0.5)
    before = scripted.content(run, TREE)
    assert cli.main(["discard-policy", str(run.uuid), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["score"], told["checkpoints"], told["updates"]) == (0.5, 1, 1)
    assert told["bytes_freed"] > 0
    assert json.loads(Path(told["files"][-1]).read_text()) == [0.5] * 8
    assert not (scripted.home / "runs" / str(run.uuid) / "checkpoints").exists()
    assert scripted.content(run, TREE) == before
    _, claims = scripted.archive.query("select mode, value from archive.claims", as_reader=False)
    assert claims == [("exact", -0.5)]
    stored = scripted.archive.run(run.id)
    assert (stored.state, stored.discarded_at is not None) == ("finished", True)
    s = scripted.open(run)  # the tokens are still there
    assert "pruned: the policy was discarded" in find(s, 1).damage[0]
    make_resident(s, 1)
    session.close(str(run.uuid))
    assert scripted.archive.run(run.id).discarded_at is None


def test_an_answer_that_does_not_verify_as_stored_keeps_its_policy(
    scripted: TrainedRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    run = solved(scripted, -0.4)
    assert cli.main(["discard-policy", str(run.uuid)]) == 1
    told = capsys.readouterr().err
    assert "does not verify as stored (value -0.4)" in told
    assert "nothing was freed" in told
    assert len(scripted.folders(run)) == 1


def test_a_discarded_policy_without_tokens_says_what_can_no_longer_be_resumed(
    scripted: TrainedRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    run = solved(scripted, -0.5)
    assert cli.main(["discard-policy", str(run.uuid), "--tokens"]) == 0
    assert "can no longer be resumed with their policy" in capsys.readouterr().err
    assert scripted.archive.without_tokens(run.id, [0]) == [0]


def test_discarding_after_the_tokens_were_pruned_promises_no_replay(
    scripted: TrainedRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    run = solved(scripted, -0.5)
    s = scripted.open(run)
    scripted.archive.discard_weights(s.hold, "a test", tokens=True)
    session.close(str(run.uuid), "finished")
    assert cli.main(["discard-policy", str(run.uuid)]) == 0
    told = capsys.readouterr().err
    assert "the tokens of step 0 are gone" in told
    assert "replayed" not in told


def test_a_backup_is_restored_under_another_home_and_the_run_goes_on_as_its_twin(
    scripted: TrainedRuns, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scripted.add()
    scripted.learn(run, 0, 1)
    file = tmp_path / "all.backup"
    assert cli.main(["db", "backup", str(file)]) == 0
    scripted.learn(run, 2)
    home = tmp_path / "other home"
    use(monkeypatch, elsewhere, home)
    assert cli.main(["db", "restore", str(file)]) == 0
    there = TrainedRuns(Archive(elsewhere), home, scripted.make)
    s = there.open(run)
    assert find(s, 2).replayed == ()
    session.close(str(run.uuid))
    there.learn(run, 2)
    assert there.content(run, WEIGHTS) == scripted.content(run, WEIGHTS)
    assert there.content(run, TREE) == scripted.content(run, TREE)
    assert there.archive.query("select count(*) from runs")[1] == [(1,)]  # the reader may read
    there.archive.close()


def test_a_backup_whose_weights_were_lost_is_replayed_after_the_restore(
    scripted: TrainedRuns, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scripted.add()
    scripted.learn(run, 0, 1)
    for folder in scripted.folders(run):
        delete(folder)
    assert cli.main(["db", "backup", str(tmp_path / "all")]) == 0
    use(monkeypatch, elsewhere, tmp_path / "b")
    assert cli.main(["db", "restore", str(tmp_path / "all")]) == 0
    there = TrainedRuns(Archive(elsewhere), tmp_path / "b", scripted.make)
    s = there.open(run)
    make_resident(s, 2)
    session.close(str(run.uuid))
    assert there.content(run, WEIGHTS) == scripted.content(run, WEIGHTS)
    there.archive.close()


def test_a_restore_refuses_to_overwrite_runs_until_told_to(
    scripted: TrainedRuns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.add()
    file = str(tmp_path / "all")
    assert cli.main(["db", "backup", file]) == 0
    scripted.add()
    assert cli.main(["db", "restore", file]) == 2
    assert "already holds 2 runs" in capsys.readouterr().err
    scripted.archive.close()
    assert cli.main(["db", "restore", file, "--replace"]) == 0
    assert len(scripted.archive.runs()) == 1


def test_a_restore_refuses_while_a_run_is_owned(scripted: TrainedRuns, tmp_path: Path) -> None:
    run = scripted.add()
    assert cli.main(["db", "backup", str(tmp_path / "all")]) == 0
    with scripted.archive.hold(run.id, owner="somebody"):
        assert cli.main(["db", "restore", str(tmp_path / "all"), "--replace"]) == 5
    assert len(scripted.archive.runs()) == 1


@pytest.mark.parametrize("content", [b"", b"PGDMP nonsense", None])
def test_a_file_that_is_no_backup_is_refused_and_changes_nothing(
    scripted: TrainedRuns, tmp_path: Path, content: bytes | None
) -> None:
    scripted.add()
    file = tmp_path / "file"
    if content is None:
        with tarfile.open(file, "w") as tar:
            tar.add(__file__, "manifest.json")
    else:
        file.write_bytes(content)
    assert cli.main(["db", "restore", str(file), "--replace"]) == 2
    schema.check(scripted.archive.url)
    assert len(scripted.archive.runs()) == 1


def test_a_backup_passes_over_what_a_living_run_prunes_meanwhile(
    scripted: TrainedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = scripted.add()
    scripted.learn(run, 0, 1)
    real = tarfile.TarFile.add

    def pruned_first(tar: tarfile.TarFile, name: Any, *given: Any, **values: Any) -> None:
        if "00001" in str(name):
            Path(name).unlink()
        real(tar, name, *given, **values)

    monkeypatch.setattr(tarfile.TarFile, "add", pruned_first)
    assert cli.main(["db", "backup", str(tmp_path / "all")]) == 0
    with tarfile.open(tmp_path / "all") as tar:
        folders = {Path(name).parent.name[:5] for name in tar.getnames() if "/" in name}
    assert folders == {"00002"}
