"""Trained runs with the scripted policy and with a tiny real model."""

from __future__ import annotations

from pathlib import Path

import pytest

from eurekaflow.models.archive import Archive
from eurekaflow.models.local import LocalPolicy
from eurekaflow.models.scripted import ScriptedPolicy
from eurekaflow.models.settings import RunConfig
from tests.scripted_run import ANSWERS
from tests.tiny_models import write_tiny_model
from tests.trained_runs import TrainedRuns


@pytest.fixture
def scripted(archive: Archive, tmp_path: Path) -> TrainedRuns:
    return TrainedRuns(archive, tmp_path, lambda config: ScriptedPolicy(ANSWERS, seed=config.seed))


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def tiny(archive: Archive, tmp_path: Path, tiny_folder: Path) -> TrainedRuns:
    def make(config: RunConfig) -> LocalPolicy:
        return LocalPolicy(
            tiny_folder,
            lora_rank=config.lora_rank,
            lora_alpha=config.lora_alpha,
            seed=config.seed,
            threads=2,
            device="cpu",
        )

    return TrainedRuns(archive, tmp_path, make)
