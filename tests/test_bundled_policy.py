"""The real bundled policy: it samples, learns and resumes as the small random models do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from eurekaflow.models.local import LocalPolicy
from eurekaflow.models.policy import (
    Prompt,
    TrainedGroup,
    TrainedResponse,
    UpdateSettings,
    Version,
    Wave,
)

pytest_plugins = ("tests.policy_fixtures",)
pytestmark = [pytest.mark.policy, pytest.mark.slow]

ASK = Prompt(text="Write a Python function f that returns 1.", opening="```python\n")
SETTINGS = UpdateSettings(lr=4e-4, micro_batch=4)


@pytest.fixture(scope="module")
def policy(bundled_policy_folder: Path) -> LocalPolicy:
    return LocalPolicy(bundled_policy_folder, lora_rank=8, lora_alpha=8, seed=0, threads=1)


def asked(policy: LocalPolicy) -> Wave:
    return Wave(
        run_seed=0,
        step=0,
        group_index=0,
        slots=(0, 1, 2, 3),
        prompt_ids=policy.encode(ASK),
        max_new_tokens=12,
        stop=("\n```",),
    )


def test_it_writes_a_python_function(policy: LocalPolicy) -> None:
    policy.ensure(Version(number=0))
    texts = [response.text for response in policy.sample(replace(asked(policy), temperature=0.3))]
    assert sum("def f" in text for text in texts) >= 3


def test_training_raises_the_rewarded_answer_and_resumes(
    policy: LocalPolicy, tmp_path: Path
) -> None:
    policy.ensure(Version(number=0))
    wave = asked(policy)
    responses = sorted(policy.sample(wave), key=lambda r: r.attempt_index)
    trained = tuple(
        TrainedResponse(
            token_ids=r.token_ids,
            logprobs=r.logprobs,
            mask=r.mask,
            advantage=1.0 if i == 0 else -0.3,
        )
        for i, r in enumerate(responses)
    )
    batch = [TrainedGroup(prompt_ids=wave.prompt_ids, responses=trained)]
    first = policy.update(batch, SETTINGS, tmp_path / "1")
    second = policy.update(batch, SETTINGS, tmp_path / "2")
    assert first.metrics["logprob_gap_half_mean_square"] < 1e-2
    assert second.metrics["loss"] < first.metrics["loss"]
    policy.ensure(Version(number=1, folder=tmp_path / "1", sha256=first.sha256))
    assert policy.update(batch, SETTINGS, tmp_path / "3").sha256 == second.sha256
