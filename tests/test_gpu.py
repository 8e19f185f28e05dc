"""On a GPU: the CPU's tokens, log-probs, gradients and updates, within stated tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eurekaflow.models.flash_attention import PackedGroups
from eurekaflow.models.local import LocalPolicy
from eurekaflow.models.policy import (
    Prompt,
    Response,
    TrainedGroup,
    TrainedResponse,
    UpdateSettings,
    Version,
    Wave,
)
from eurekaflow.models.prefix_attention import Seen
from tests.tiny_models import write_tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no NVIDIA GPU"),
]
WAVE = Wave(
    run_seed=7,
    step=2,
    group_index=1,
    slots=tuple(range(24)),
    prompt_ids=tuple(range(40, 90)),
    max_new_tokens=90,
    temperature=0.9,
    stop=("a", "bc"),
    window=512,
)
WAVES = (WAVE, replace(WAVE, group_index=4, prompt_ids=tuple(range(60, 71)), slots=(3, 4, 9)))
SETTINGS = UpdateSettings(lr=1e-3, kl=0.2, temperature=0.9)


def opened(folder: Path, device: str) -> LocalPolicy:
    policy = LocalPolicy(
        folder, lora_rank=4, lora_alpha=8, seed=5, threads=2, dtype="float32", device=device
    )
    policy.ensure(Version(number=0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in policy._layers.values():
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.05)
    policy._refresh()
    return policy


def trained(waves: Sequence[Wave], found: Sequence[tuple[int, Response]]) -> list[TrainedGroup]:
    ordered = sorted(found, key=lambda pair: (pair[0], pair[1].attempt_index))
    return [
        TrainedGroup(
            prompt_ids=wave.prompt_ids,
            responses=tuple(
                TrainedResponse(
                    token_ids=r.token_ids,
                    logprobs=r.logprobs,
                    mask=r.mask,
                    advantage=float(np.cos(r.attempt_index)),
                )
                for i, r in ordered
                if i == index
            ),
        )
        for index, wave in enumerate(waves)
    ]


@pytest.mark.parametrize(
    "family", ["qwen2", "qwen3", "llama", "gemma", "gemma2", "gemma3", "gpt_oss"]
)
def test_tokens_and_logprobs_are_those_of_the_cpu(family: str, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, family=family, tied=family != "llama")
    expected = {(i, r.attempt_index): r for i, r in opened(folder, "cpu").sample_together(WAVES)}
    found = {(i, r.attempt_index): r for i, r in opened(folder, "cuda").sample_together(WAVES)}
    assert found.keys() == expected.keys()
    same = [k for k, r in expected.items() if r.token_ids.tolist() == found[k].token_ids.tolist()]
    assert len(same) >= 0.9 * len(expected), "a uniform on the edge of two tokens is rare"
    for key in same:
        np.testing.assert_allclose(found[key].logprobs, expected[key].logprobs, atol=1e-3)
        assert found[key].finish == expected[key].finish


@pytest.mark.parametrize("family", ["qwen2", "gemma2", "gemma3", "gpt_oss"])
def test_an_update_is_that_of_the_cpu(family: str, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, family=family)
    policies = [opened(folder, device) for device in ("cpu", "cuda")]
    groups = trained(WAVES, list(policies[0].sample_together(WAVES)))
    metrics = [policy._trainer.update(groups, SETTINGS) for policy in policies]
    for name in ("loss", "grad_norm", "kl_policy_base", "tokens"):
        assert metrics[1][name] == pytest.approx(metrics[0][name], rel=1e-3)
    for one, other in zip(*(p._trainer.parameters.values() for p in policies), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        error = (other.grad.cpu() - one.grad).norm() / metrics[0]["grad_norm"]
        assert error < 1e-3


def test_running_out_of_memory_halves_the_micro_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = opened(write_tiny_model(tmp_path), "cuda")
    groups = trained(WAVES, list(policy.sample_together(WAVES)))
    whole = policy._trainer.update(groups, replace(SETTINGS, lr=0.0))
    grads = [p.grad.clone() for p in policy._trainer.parameters.values() if p.grad is not None]
    step = policy._trainer.together
    hidden = step._hidden

    def too_large(parts):  # type: ignore[no-untyped-def]
        if sum(part.size for part in parts) > 700:
            torch.empty(2**60, device="cuda", dtype=torch.uint8)
        return hidden(parts)

    monkeypatch.setattr(step, "_hidden", too_large)
    halved = policy._trainer.update(groups, replace(SETTINGS, lr=0.0))
    assert halved["loss"] == pytest.approx(whole["loss"], rel=1e-4)
    again = [p.grad for p in policy._trainer.parameters.values() if p.grad is not None]
    for one, other in zip(grads, again, strict=True):
        torch.testing.assert_close(other, one, atol=1e-4 * whole["grad_norm"], rtol=1e-2)


def test_checkpointed_layers_give_the_same_gradient(tmp_path: Path) -> None:
    policy = opened(write_tiny_model(tmp_path), "cuda")
    groups = trained(WAVES, list(policy.sample_together(WAVES)))
    first = policy._trainer.update(groups, replace(SETTINGS, lr=0.0))
    second = policy._trainer.update(groups, replace(SETTINGS, lr=0.0, checkpointing=True))
    assert second["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-4)


def test_flash_attention_over_shared_prompts_equals_the_reference() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    plan = PackedGroups((70, 9), ((5, 130, 1), (64,)), torch.device("cuda"))
    slow = PackedGroups((70, 9), ((5, 130, 1), (64,)), torch.device("cuda"), flash=False)
    tokens = 70 + 9 + 136 + 64
    shapes = ((1, 6, tokens, 64), (1, 2, tokens, 64), (1, 2, tokens, 64))
    inputs = [torch.randn(s, device="cuda", generator=generator).bfloat16() for s in shapes]
    fast_in = [x.clone().requires_grad_() for x in inputs]
    slow_in = [x.double().requires_grad_() for x in inputs]
    grad = torch.randn(1, tokens, 6, 64, device="cuda", generator=generator)
    found = plan.attend(0, *fast_in, 0.125, Seen())
    expected = slow.attend(0, *slow_in, 0.125, Seen())
    found.backward(grad.bfloat16())
    expected.backward(grad.double())
    pairs = [(found, expected), *((a.grad, b.grad) for a, b in zip(fast_in, slow_in, strict=True))]
    for one, other in pairs:
        assert one is not None
        assert other is not None
        assert (one.double() - other).norm() < 1e-2 * other.norm()


def test_sampler_and_trainer_agree_in_bfloat16_once_trained(tmp_path: Path) -> None:
    policy = LocalPolicy(write_tiny_model(tmp_path), lora_rank=4, lora_alpha=8, seed=5, threads=2)
    policy.ensure(Version(number=0))
    for _ in range(3):
        groups = trained(WAVES, list(policy.sample_together(WAVES)))
        metrics = policy._trainer.update(groups, replace(SETTINGS, lr=0.05))
        policy._refresh()
    assert metrics["kl_policy_base"] > 0.1
    assert abs(metrics["logprob_gap_mean"]) < 0.05 * metrics["kl_policy_base"]


@pytest.mark.policy
def test_sampler_and_trainer_agree_in_bfloat16(bundled_policy_folder: Path) -> None:
    policy = LocalPolicy(bundled_policy_folder, lora_rank=32, lora_alpha=32, seed=0, threads=4)
    policy.ensure(Version(number=0))
    prompt = policy.encode(Prompt(text="Write a Python function that sorts a list."))
    wave = replace(WAVE, prompt_ids=prompt, stop=(), temperature=1.0, window=2048)
    groups = trained([wave], list(policy.sample_together([wave])))
    metrics = policy._trainer.update(groups, replace(SETTINGS, temperature=1.0))
    assert abs(metrics["logprob_gap_mean"]) < 0.01
    assert metrics["logprob_gap_half_mean_square"] < 1e-3


def test_a_version_is_staged_and_loaded_again(tmp_path: Path) -> None:
    policy = opened(write_tiny_model(tmp_path / "model"), "cuda")
    groups = trained(WAVES, list(policy.sample_together(WAVES)))
    (tmp_path / "staged").mkdir()
    report = policy.update(groups, SETTINGS, tmp_path / "staged")
    after = [r.token_ids.tolist() for _, r in policy.sample_together(WAVES)]
    policy.ensure(Version(number=0))
    version = Version(number=1, folder=tmp_path / "staged", sha256=report.sha256)
    policy.ensure(version)
    again = [r.token_ids.tolist() for _, r in policy.sample_together(WAVES)]
    assert sorted(after) == sorted(again)
    policy.update(groups, SETTINGS, tmp_path / "staged")  # Adam's state was read on the CPU
