"""What a machine offers, read without torch: which physical GPUs a process may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from eurekaflow.flows.hardware import visible_gpus
from eurekaflow.flows.sitting import devices, take_machine
from eurekaflow.models.archive import Archive
from eurekaflow.models.errors import RunOwned

pytest_plugins = ("tests.archive_fixtures",)
TWO = """GPU 0: NVIDIA H200 (UUID: GPU-bbbb-2222)
GPU 1: NVIDIA H200 (UUID: GPU-aaaa-1111)
  MIG 1g.18gb     Device  0: (UUID: MIG-9999)
"""


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        (None, ["GPU-aaaa-1111", "GPU-bbbb-2222"]),
        ("0", ["GPU-bbbb-2222"]),
        ("1,0", ["GPU-aaaa-1111", "GPU-bbbb-2222"]),
        ("GPU-aaaa", ["GPU-aaaa-1111"]),
        ("MIG-9999", ["GPU-aaaa-1111"]),
        ("7", []),
    ],
)
def test_a_gpu_goes_by_one_name_however_it_is_chosen(shown: str | None, found: list[str]) -> None:
    environ = {} if shown is None else {"CUDA_VISIBLE_DEVICES": shown}
    assert visible_gpus(environ, TWO) == found


@pytest.fixture
def two_gpus(tmp_path: Path) -> str:
    """A PATH whose nvidia-smi lists two GPUs."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text(f"#!/bin/sh\nprintf '%s' '{TWO}'\n")
    fake.chmod(0o755)
    return str(tmp_path)


def test_without_an_answer_the_choice_itself_is_the_name(tmp_path: Path) -> None:
    silent = tmp_path / "nvidia-smi"
    silent.write_text("#!/bin/sh\nexit 9\n")
    silent.chmod(0o755)
    [name] = devices({"PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "1"})
    assert name.endswith(" gpu 1")


@pytest.mark.services
def test_a_gpu_chosen_by_number_and_by_name_is_not_shared(
    archive: Archive, two_gpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", two_gpus)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aaaa")
    with take_machine(archive.url, owner="the night of erdos"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with pytest.raises(RunOwned, match="GPU-aaaa-1111 is in use by the night of erdos"):
            take_machine(archive.url, owner="another")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # nothing was kept of the refused pair
        take_machine(archive.url, owner="another").close()
