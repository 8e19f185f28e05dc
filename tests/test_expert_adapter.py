"""LoRA on a mixture's experts: the sampler's log-probs, the update, and PEFT's own reading."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from eurekaflow.models.adapter import switched_off
from eurekaflow.models.errors import UsageError
from eurekaflow.models.expert_adapter import ExpertAdapter
from eurekaflow.models.forecast import Sizes
from eurekaflow.models.local import LocalPolicy
from eurekaflow.models.policy import UpdateSettings, Version
from tests.test_families import WAVE, trained
from tests.tiny_models import write_tiny_model

SETTINGS = UpdateSettings(lr=0.01, temperature=0.8, micro_batch=2)


def opened(folder: Path, *, dtype: str = "float32", lora_experts: bool = True) -> LocalPolicy:
    policy = LocalPolicy(
        folder, lora_rank=4, lora_alpha=8, seed=5, threads=1, dtype=dtype, device="cpu",
        lora_experts=lora_experts,
    )  # fmt: skip
    policy.ensure(Version(number=0))
    return policy


@pytest.fixture(scope="module", params=["gpt_oss", "qwen3_moe"])
def updated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LocalPolicy, Path, Path]]:
    """A policy after one update, its model, and the folder that the update has staged."""
    folder = write_tiny_model(tmp_path_factory.mktemp(request.param), family=request.param)
    staged = tmp_path_factory.mktemp("staged")
    policy = opened(folder)
    before = experts(policy)
    policy.update([trained(list(policy.sample(WAVE)))], SETTINGS, staged)
    assert all((a != b).any() for a, b in zip(before, experts(policy), strict=True))
    yield policy, folder, staged
    policy.close()


def experts(policy: LocalPolicy) -> list[torch.Tensor]:
    found = [layer for layer in policy._layers.values() if isinstance(layer, ExpertAdapter)]
    assert len(found) == 6
    return [layer.lora_B.detach().clone() for layer in found]


def test_peft_reads_the_adapter_and_gives_the_sampled_logprobs(
    updated: tuple[LocalPolicy, Path, Path],
) -> None:
    policy, folder, staged = updated
    base = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        theirs = PeftModel.from_pretrained(base, staged)
    assert not [w for w in told if "missing" in str(w.message).lower()]
    for response in policy.sample(WAVE):
        ids = torch.tensor([[*WAVE.prompt_ids, *response.token_ids.tolist()]])
        with torch.no_grad():
            logits = theirs(input_ids=ids).logits[0, len(WAVE.prompt_ids) - 1 : -1]
        every = (logits / WAVE.temperature).double().log_softmax(-1)
        expected = every.gather(1, ids[0, len(WAVE.prompt_ids) :, None])[:, 0]
        np.testing.assert_allclose(response.logprobs, expected.numpy(), atol=2e-4)


def test_sampler_and_trainer_agree_and_a_packed_pass_is_the_same(
    updated: tuple[LocalPolicy, Path, Path],
) -> None:
    policy, _, _ = updated
    group = trained(list(policy.sample(WAVE)))
    still = replace(SETTINGS, lr=0.0)
    grads = []
    for chosen in (still, replace(still, micro_tokens=90, checkpointing=True)):
        metrics = policy._trainer.update([group], chosen)
        assert metrics["logprob_gap_half_mean_square"] < 1e-8
        grads.append([p.grad.clone() for p in policy._trainer.parameters.values()])  # type: ignore[union-attr]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4 * metrics["grad_norm"], rtol=1e-3)


def test_switched_off_the_experts_are_those_of_the_base(
    updated: tuple[LocalPolicy, Path, Path],
) -> None:
    policy, folder, _ = updated

    ids = torch.tensor([WAVE.prompt_ids])
    base = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with torch.no_grad(), switched_off(policy._layers):
        torch.testing.assert_close(
            policy._model(input_ids=ids).logits, base(input_ids=ids).logits, atol=1e-3, rtol=1e-3
        )


def test_a_bfloat16_base_learns_too_small_changes_of_its_weights(tmp_path: Path) -> None:
    policy = opened(write_tiny_model(tmp_path / "model", family="gpt_oss"), dtype="bfloat16")
    before = experts(policy)
    (tmp_path / "staged").mkdir()
    group = trained(list(policy.sample(WAVE)))
    report = policy.update([group], replace(SETTINGS, lr=1e-5), tmp_path / "staged")
    assert report.metrics["grad_norm"] > 0
    assert all((a != b).any() for a, b in zip(before, experts(policy), strict=True))
    version = Version(number=1, folder=tmp_path / "staged", sha256=report.sha256)
    learned = experts(policy)
    policy.ensure(Version(number=0))
    policy.ensure(version)
    assert all(torch.equal(a, b) for a, b in zip(learned, experts(policy), strict=True))


def test_the_forecast_counts_what_is_trained(updated: tuple[LocalPolicy, Path, Path]) -> None:
    policy, folder, _ = updated
    config = AutoModelForCausalLM.from_pretrained(folder).config
    trained_numbers = sum(p.numel() for p in policy._trainer.parameters.values())
    assert Sizes.of(config).adapter(4, experts=True) == trained_numbers


def test_a_model_without_experts_says_so(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path)
    with pytest.raises(UsageError, match="no experts"):
        opened(folder)
    mixture = write_tiny_model(tmp_path / "mixture", family="gpt_oss")
    assert "model.layers.0.mlp.experts" not in opened(mixture, lora_experts=False)._layers
