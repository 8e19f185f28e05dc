"""The scripted policy keeps the promises of a real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eurekaflow.models.errors import CheckpointDamaged
from eurekaflow.models.policy import (
    Policy,
    Response,
    TrainedGroup,
    TrainedResponse,
    UpdateSettings,
    Version,
    Wave,
)
from eurekaflow.models.scripted import ScriptedPolicy

ANSWERS = ("good", "bad", "ugly")
SETTINGS = UpdateSettings(lr=0.3)


def wave(step: int = 0) -> Wave:
    return Wave(
        run_seed=3,
        step=step,
        group_index=0,
        slots=tuple(range(16)),
        prompt_ids=(1, 2),
        max_new_tokens=50,
    )


def group(responses: list[Response]) -> TrainedGroup:
    return TrainedGroup(
        prompt_ids=(1, 2),
        responses=tuple(
            TrainedResponse(
                token_ids=r.token_ids,
                logprobs=r.logprobs,
                mask=r.mask,
                advantage=1.0 if r.text == "good" else -0.2,
            )
            for r in responses
        ),
    )


def texts(policy: ScriptedPolicy, step: int = 0) -> list[str]:
    return [r.text for r in policy.sample(wave(step))]


def test_canned_answers_are_learned(tmp_path: Path) -> None:
    policy: Policy = ScriptedPolicy(ANSWERS)
    policy.ensure(Version(number=0))
    counts = []
    for step in range(12):
        responses = list(policy.sample(wave(step)))
        counts.append(sum(r.text == "good" for r in responses))
        policy.update([group(responses)], SETTINGS, tmp_path / f"{step}")
    assert np.mean(counts[-3:]) > np.mean(counts[:2]) + 4


def test_sampling_is_a_pure_function_of_version_and_wave(tmp_path: Path) -> None:
    first, second = ScriptedPolicy(ANSWERS), ScriptedPolicy(ANSWERS)
    for policy in (first, second):
        policy.ensure(Version(number=0))
    assert texts(first) == texts(second)
    assert texts(first) != texts(first, step=1)


def test_an_update_from_a_loaded_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    policy = ScriptedPolicy(ANSWERS)
    policy.ensure(Version(number=0))
    data = [group(list(policy.sample(wave())))]
    one = policy.update(data, SETTINGS, tmp_path / "1")
    two = policy.update(data, SETTINGS, tmp_path / "2")
    other = ScriptedPolicy(ANSWERS)
    other.ensure(Version(number=1, folder=tmp_path / "1", sha256=one.sha256))
    assert other.update(data, SETTINGS, tmp_path / "3").files == two.files


def test_an_altered_checkpoint_is_refused(tmp_path: Path) -> None:
    policy = ScriptedPolicy(ANSWERS)
    policy.ensure(Version(number=0))
    report = policy.update([group(list(policy.sample(wave())))], SETTINGS, tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    policy.ensure(Version(number=0))
    with pytest.raises(CheckpointDamaged):
        policy.ensure(Version(number=2, folder=tmp_path, sha256=report.sha256))


def test_a_resident_version_is_taken_under_its_committed_number(tmp_path: Path) -> None:
    """An untrained step makes no version, so the next one's number is not its own count."""
    policy = ScriptedPolicy(ANSWERS)
    policy.ensure(Version(number=0))
    report = policy.update([group(list(policy.sample(wave())))], SETTINGS, None)
    assert report.files == {}
    version = Version(number=4, folder=tmp_path / "never written", sha256=report.sha256)
    assert policy.holds(version)
    policy.ensure(version)
    assert not policy.holds(Version(number=0))
    assert not policy.holds(Version(number=4, sha256="0" * 64))


def test_a_function_sees_wave_attempt_and_version(tmp_path: Path) -> None:
    policy = ScriptedPolicy(lambda w, attempt, version: f"{w.step} {attempt} {version}")
    policy.ensure(Version(number=0))
    responses = list(policy.sample(wave(4)))
    assert responses[3].text == "4 3 0"
    policy.update([group(responses)], SETTINGS, tmp_path)
    assert texts(policy)[0] == "0 0 1"


def test_a_text_longer_than_the_wave_allows_is_cut() -> None:
    policy = ScriptedPolicy(["x" * 80])
    policy.ensure(Version(number=0))
    first = next(iter(policy.sample(wave())))
    assert (len(first.token_ids), first.finish) == (50, "length")
