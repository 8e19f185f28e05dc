"""Families beyond Qwen2 and Llama, from random configurations: windows, sinks, experts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from eurekaflow.models import fused_loss
from eurekaflow.models.adapter import AdaptedLinear
from eurekaflow.models.errors import ModelDamaged, UsageError
from eurekaflow.models.local import LocalPolicy, together
from eurekaflow.models.model_card import check_folder
from eurekaflow.models.policy import (
    Prompt,
    Response,
    TrainedGroup,
    TrainedResponse,
    UpdateSettings,
    Version,
    Wave,
)
from eurekaflow.models.renderer import SENTENCE, Renderer
from tests.tiny_models import byte_tokenizer, write_tiny_model, write_tiny_seeing_model

FAMILIES = ("gemma2", "gemma3", "gpt_oss")
WAVE = Wave(
    run_seed=7,
    step=2,
    group_index=1,
    slots=(0, 1, 2, 3),
    prompt_ids=tuple(range(40, 70)),
    max_new_tokens=25,
    temperature=0.8,
    window=512,
)
HARMONY = ("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|return|>", "<|call|>")


@pytest.fixture(scope="module", params=FAMILIES)
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LocalPolicy, Path]]:
    folder = write_tiny_model(tmp_path_factory.mktemp(request.param), family=request.param)
    policy = LocalPolicy(
        folder, lora_rank=4, lora_alpha=8, seed=5, threads=1, dtype="float32", device="cpu"
    )
    policy.ensure(Version(number=0))
    yield policy, folder
    policy.close()


def sampled(folder: Path) -> list[tuple[list[int], list[float]]]:
    policy = LocalPolicy(
        folder, lora_rank=4, lora_alpha=8, seed=5, threads=1, dtype="float32", device="cpu"
    )
    policy.ensure(Version(number=0))
    found = sorted(policy.sample(WAVE), key=lambda r: r.attempt_index)
    policy.close()
    return [(r.token_ids.tolist(), r.logprobs.tolist()) for r in found]


def test_of_a_gemma_that_also_sees_images_the_text_part_is_the_policy(tmp_path: Path) -> None:
    whole, part = write_tiny_seeing_model(tmp_path)
    check_folder(whole)
    assert sampled(whole) == sampled(part)


def test_a_model_without_some_of_its_weights_is_refused(tmp_path: Path) -> None:
    file = write_tiny_model(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ModelDamaged, match="lacks 1 of its weights, such as model"):
        sampled(tmp_path)


def trained(responses: list[Response]) -> TrainedGroup:
    return TrainedGroup(
        prompt_ids=WAVE.prompt_ids,
        responses=tuple(
            TrainedResponse(
                token_ids=r.token_ids, logprobs=r.logprobs, mask=r.mask, advantage=float(1 - 2 * i)
            )
            for i, r in enumerate(responses)
        ),
    )


def test_sampled_logprobs_are_those_of_transformers(opened: tuple[LocalPolicy, Path]) -> None:
    policy, folder = opened
    eager = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    for response in policy.sample(WAVE):
        ids = torch.tensor([[*WAVE.prompt_ids, *response.token_ids.tolist()]])
        with torch.no_grad():
            logits = eager(input_ids=ids).logits[0, len(WAVE.prompt_ids) - 1 : -1]
        every = (logits / WAVE.temperature).double().log_softmax(-1)
        expected = every.gather(1, ids[0, len(WAVE.prompt_ids) :, None])[:, 0]
        np.testing.assert_allclose(response.logprobs, expected.numpy(), atol=2e-4)


def test_all_groups_together_get_the_same_tokens(opened: tuple[LocalPolicy, Path]) -> None:
    policy, _ = opened
    model = policy._model
    sampler = together(model.get_decoder(), model.get_output_embeddings(), policy.renderer)
    waves = (WAVE, replace(WAVE, group_index=2, prompt_ids=tuple(range(90, 95))))
    found = {(i, r.attempt_index): r.token_ids.tolist() for i, r in sampler.sample(waves)}
    expected = {
        (i, r.attempt_index): r.token_ids.tolist()
        for i, wave in enumerate(waves)
        for r in policy.sample(wave)
    }
    assert found == expected


def test_the_packed_update_equals_the_one_group_by_group(opened: tuple[LocalPolicy, Path]) -> None:
    policy, _ = opened
    group = trained(list(policy.sample(WAVE)))
    settings = UpdateSettings(lr=0.0, temperature=0.8, micro_batch=2)
    metrics, grads = [], []
    for chosen in (settings, replace(settings, micro_tokens=90, checkpointing=True)):
        metrics.append(policy._trainer.update([group], chosen))
        grads.append([p.grad.clone() for p in policy._trainer.parameters.values()])  # type: ignore[union-attr]
    assert metrics[0]["logprob_gap_half_mean_square"] < 1e-8
    assert metrics[1]["loss"] == pytest.approx(metrics[0]["loss"], rel=1e-4, abs=1e-3)
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4 * metrics[0]["grad_norm"], rtol=1e-3)


def test_the_gradient_of_capped_logits_is_that_of_autograd() -> None:
    torch.manual_seed(0)
    head = AdaptedLinear(torch.nn.Linear(16, 50, bias=False), rank=4, alpha=8)
    torch.nn.init.normal_(head.lora_A)
    torch.nn.init.normal_(head.lora_B)
    head.cap = 2.0
    hidden = torch.randn(9, 16, requires_grad=True)
    targets, sampled, advantage = torch.arange(9), torch.randn(9).double(), torch.randn(9).double()
    logits = head.cap * torch.tanh(head(hidden) / head.cap) / 0.8
    logp = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    (-((logp.double() - sampled).exp() * advantage).sum()).backward()
    expected = [hidden.grad, head.lora_A.grad, head.lora_B.grad]
    head.lora_A.grad, head.lora_B.grad = torch.zeros(4, 16), torch.zeros(50, 4)
    found, gradient = fused_loss.backward(
        head, hidden.detach(), targets, sampled, advantage, temperature=0.8
    )
    torch.testing.assert_close(found, logp.detach())
    for one, other in zip((gradient, head.lora_A.grad, head.lora_B.grad), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_logits_that_a_family_scales_are_refused(tmp_path: Path) -> None:
    config = write_tiny_model(tmp_path) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "logits_scaling": 8.0}))
    with pytest.raises(UsageError, match="logits_scaling"):
        LocalPolicy(tmp_path, lora_rank=4, lora_alpha=8, seed=5, threads=1, device="cpu")


def harmony() -> Renderer:
    chat = "{{ messages[-1].content }}<|start|>assistant{# <|channel|> #}"
    return Renderer(byte_tokenizer(chat, special=HARMONY), date="2026-01-01")


def test_harmony_ends_at_its_own_stop_tokens() -> None:
    renderer = harmony()
    for token in ("<|return|>", "<|call|>"):
        assert renderer.tokenizer.convert_tokens_to_ids(token) in renderer.stop_ids


def test_an_opened_answer_is_opened_in_the_final_channel() -> None:
    text = harmony().render(Prompt(text="Do it.", opening="```python\n"))
    assert text == "Do it.<|start|>assistant<|channel|>final<|message|>```python\n"


def test_a_thinking_gpt_oss_is_forced_into_its_final_channel(tmp_path: Path) -> None:
    policy = LocalPolicy(
        write_tiny_model(tmp_path, family="gpt_oss"),
        lora_rank=4,
        lora_alpha=8,
        seed=5,
        threads=1,
        dtype="float32",
        device="cpu",
    )
    policy.ensure(Version(number=0))
    renderer = harmony()
    policy._sampler.renderer = renderer
    bound = len(WAVE.prompt_ids) + 10
    wave = replace(WAVE, phase1_tokens=bound, max_new_tokens=115)
    forced = [response for response in policy.sample(wave) if response.forced]
    assert forced
    for response in forced:
        whole = renderer.decode(response.token_ids.tolist(), special=True)
        assert f"{SENTENCE}<|end|><|start|>assistant<|channel|>final<|message|>" in whole
        assert not response.mask.all()
