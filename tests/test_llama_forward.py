"""The written-out forward pass gives what the model's own modules give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eurekaflow.models.adapter import packs
from eurekaflow.models.llama_forward import LlamaForward, ModuleForward, forward_of
from eurekaflow.models.local import LocalPolicy
from eurekaflow.models.policy import Version
from eurekaflow.models.prefix_attention import DecodePass, PromptPass
from tests.tiny_models import write_tiny_model

PROMPT, ROWS, STEPS = 23, 5, 3


def opened(folder: Path, dtype: str = "float32") -> LocalPolicy:
    policy = LocalPolicy(folder, lora_rank=4, lora_alpha=8, seed=5, threads=1, dtype=dtype)
    policy.ensure(Version(number=0))
    if not packs(policy._model.get_output_embeddings().weight):
        pytest.skip("weights are not laid out on this processor in this precision")
    train(policy, 1)
    return policy


def train(policy: LocalPolicy, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in policy._layers.values():
            layer.lora_B.normal_(0, 0.05, generator=generator)


@torch.no_grad()
def states(forward: LlamaForward | ModuleForward) -> list[torch.Tensor]:
    """Hidden states of a prompt's last token and of a few tokens of every row."""
    forward.refresh()
    prompt = PromptPass()
    found = [forward(torch.arange(40, 40 + PROMPT)[None], torch.arange(PROMPT), prompt)]
    decoding = DecodePass(prompt, ROWS)
    for step in range(STEPS):
        ids = torch.arange(ROWS)[:, None] * 7 + step
        found.append(forward(ids, torch.tensor([PROMPT + step]), decoding))
        decoding.advance()
    return found


def pair(policy: LocalPolicy) -> tuple[LlamaForward, ModuleForward]:
    written = policy._sampler.forward
    assert isinstance(written, LlamaForward)
    return written, ModuleForward(written.model)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_the_written_out_pass_is_the_models_own(family: str, tmp_path: Path) -> None:
    written, modules = pair(opened(write_tiny_model(tmp_path, family=family)))
    for one, other in zip(states(written), states(modules), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_it_is_no_further_from_the_truth(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path)
    written, modules = pair(opened(folder, "bfloat16"))
    truth = states(pair(opened(folder))[1])

    def error(forward: LlamaForward | ModuleForward) -> float:
        pairs = zip(states(forward), truth, strict=True)
        return sum(float((one.float() - other).square().sum()) for one, other in pairs)

    assert error(written) < 1.5 * error(modules)


def test_an_adapter_that_is_written_to_is_taken_over(tmp_path: Path) -> None:
    policy = opened(write_tiny_model(tmp_path))
    written, modules = pair(policy)
    before = states(written)
    train(policy, 2)
    after = states(written)
    assert not torch.allclose(after[-1], before[-1])
    torch.testing.assert_close(after[-1], states(modules)[-1], rtol=1e-4, atol=1e-5)


def test_a_model_of_another_kind_is_asked_through_its_modules(tmp_path: Path) -> None:
    policy = opened(write_tiny_model(tmp_path, family="gemma2"))
    assert isinstance(policy._sampler.forward, ModuleForward)
    assert isinstance(forward_of(policy._model.get_decoder()), ModuleForward)
    layer = policy._model.get_decoder().layers[0].mlp.up_proj
    assert layer.laid_out is not None


def test_a_weight_is_laid_out_once(tmp_path: Path) -> None:
    policy = opened(write_tiny_model(tmp_path))
    layers = policy._model.get_decoder().layers
    assert all(layer.mlp.up_proj.laid_out is None for layer in layers)
