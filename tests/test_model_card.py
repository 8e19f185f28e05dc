"""What is accepted as a model folder, and what its card says."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eurekaflow.flows import memory_forecast
from eurekaflow.flows.configure import Surroundings
from eurekaflow.models.errors import EurekaError, ModelDamaged, PrerequisiteMissing, UsageError
from eurekaflow.models.settings import RunConfig
from eurekaflow.models.weights import check_folder, describe, resolve_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tiny_gguf: Path, tmp_path: Path) -> Path:
    """A plain Hugging Face folder, as save_pretrained leaves it."""
    target = tmp_path / "own-model"
    shutil.copytree(resolve_model(str(tiny_gguf), tmp_path / "cache"), target)
    (target / "eurekaflow-model.json").unlink()
    return target


def test_a_folder_is_used_where_it_is(folder: Path, tmp_path: Path) -> None:
    assert resolve_model(str(folder), tmp_path / "other", offline=True) == folder
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer"),
        ("model.safetensors", "no model.safetensors"),
    ],
)
def test_an_incomplete_folder_is_refused(folder: Path, absent: str, said: str) -> None:
    (folder / absent).unlink()
    with pytest.raises(UsageError, match=said):
        check_folder(folder)


def test_an_adapter_alone_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="only an adapter"):
        resolve_model(str(tmp_path), tmp_path)


def test_pickled_weights_alone_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match="pickle runs its code"):
        resolve_model(str(folder), tmp_path)


def test_a_torn_weight_file_is_refused(folder: Path) -> None:
    size = (folder / "model.safetensors").stat().st_size
    os.truncate(folder / "model.safetensors", size - 10)
    with pytest.raises(ModelDamaged, match=f"{size - 10} bytes instead of {size}"):
        check_folder(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"12345678", b"\xff" * 64, b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{"],
)
def test_bytes_that_are_no_safetensors_are_refused(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelDamaged):
        check_folder(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000])
def test_a_broken_configuration_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelDamaged, match=r"config\.json"):
        check_folder(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(ModelDamaged, match="model-00002-of-00002"):
        check_folder(folder)


def test_shards_are_counted_together(folder: Path) -> None:
    whole = describe(folder)
    for number in (1, 2):
        shutil.copy(folder / "model.safetensors", folder / f"part{number}.safetensors")
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"a": "part1.safetensors", "b": "part2.safetensors"}})
    )
    assert describe(folder).parameters == 2 * whole.parameters


def test_changed_weights_change_the_remembered_hash(folder: Path) -> None:
    before = describe(folder).sha256
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert describe(folder).sha256 != before


def test_unchanged_weights_are_hashed_once(folder: Path) -> None:
    describe(folder)
    store = folder / "eurekaflow-sha256.json"
    store.write_text(store.read_text().replace(describe(folder).sha256, "remembered"))
    assert describe(folder).sha256 == "remembered"


def test_the_licence_of_an_own_folder_comes_from_its_readme(folder: Path) -> None:
    assert describe(folder).licence == "unknown"
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    assert describe(folder).licence == "mit"


def test_a_hub_model_in_the_cache_resolves_offline_with_its_revision(
    folder: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "cache" / "hub" / "models--some--model"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    card = describe(resolve_model("some/model", tmp_path / "cache", offline=True))
    assert (card.name, card.revision) == ("some/model", COMMIT)


def test_a_hub_model_absent_from_the_cache_is_not_fetched_offline(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteMissing, match="--model PATH"):
        resolve_model("some/model", tmp_path, offline=True)


def test_an_unreachable_hub_names_a_local_model_as_the_fix(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from eurekaflow.models.weights import resolve_model\n"
        "from eurekaflow.models.errors import PrerequisiteMissing\n"
        "try: resolve_model('some/model', Path(sys.argv[1]))\n"
        "except PrerequisiteMissing as error: print(error)"
    )
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "cannot be fetched from the Hugging Face hub" in done.stdout
    assert "--model PATH" in done.stdout


def test_errors_travel_between_processes(tmp_path: Path) -> None:
    with pytest.raises(EurekaError) as caught:
        check_folder(tmp_path)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("changed", "said", "fix"),
    [
        ({"quantization_config": {"quant_method": "mxfp4"}}, "MXFP4", r"Mxfp4Config.*dequantize"),
        ({"quantization_config": {"quant_method": "fp8"}}, r"quantised \(fp8\)", "bfloat16"),
        ({"logits_scaling": 8.0}, "like Granite", "Gemma"),
        ({"text_config": {"hidden_size": 8}}, "sees images", "text model"),
    ],
)
def test_models_that_cannot_be_trained_are_refused_with_what_to_do(
    folder: Path, changed: dict[str, object], said: str, fix: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changed}))
    with pytest.raises(UsageError, match=said) as refused:
        check_folder(folder)
    assert re.search(fix, refused.value.fix)
    found = memory_forecast.of_run(RunConfig(problem="erdos", model=str(folder)),
                                   Surroundings(home=folder))  # fmt: skip
    assert (found.status, found.message) == ("warn", refused.value.message)
