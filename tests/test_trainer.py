"""The update: gradients equal to plain autograd, exact accumulation, and resumable bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from eurekaflow.models import adapter
from eurekaflow.models.entropic import importance_loss, shape_kl
from eurekaflow.models.errors import CheckpointDamaged
from eurekaflow.models.local import LocalPolicy
from eurekaflow.models.policy import TrainedGroup, TrainedResponse, UpdateSettings, Version, Wave
from tests.tiny_models import write_tiny_model

SETTINGS = UpdateSettings(lr=1e-2, kl=0.2, micro_batch=2, temperature=0.9)
LENGTHS = (7, 1, 12, 4, 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def policy(folder: Path) -> Iterator[LocalPolicy]:
    policy = opened(folder)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # an adapter that has an effect, so that base and policy differ
        for layer in policy._layers.values():
            layer.lora_B.normal_(0, 0.05, generator=generator)
    yield policy
    policy.close()


def opened(folder: Path) -> LocalPolicy:
    policy = LocalPolicy(folder, lora_rank=4, lora_alpha=8, seed=5, threads=1, dtype="float32")
    policy.ensure(Version(number=0))
    return policy


def batch(*, seed: int = 0, groups: int = 2) -> list[TrainedGroup]:
    """Random responses, some with forced tokens in the middle, one without any trained token."""
    rng = np.random.default_rng(seed)
    return [
        TrainedGroup(
            prompt_ids=tuple(rng.integers(0, 250, 11 + 3 * g).tolist()),
            responses=tuple(response(rng, length) for length in LENGTHS),
        )
        for g in range(groups)
    ]


def response(rng: np.random.Generator, length: int) -> TrainedResponse:
    mask = np.ones(length, dtype=np.bool_)
    mask[3:6] = length < 8  # long ones have forced tokens at 3..5
    mask[:] = mask & (length != 4)
    return TrainedResponse(
        token_ids=rng.integers(0, 250, length).astype(np.int32),
        logprobs=(-6 + rng.normal(0, 0.3, length) * mask).astype(np.float32) * mask,
        mask=mask,
        advantage=float(rng.normal()),
    )


def plain_logprobs(
    policy: LocalPolicy, group: TrainedGroup, response: TrainedResponse, temperature: float
) -> torch.Tensor:
    ids = torch.tensor([[*group.prompt_ids, *response.token_ids.tolist()]])
    logits = policy._model(input_ids=ids, use_cache=False).logits[0] / temperature
    start = len(group.prompt_ids)
    logp = logits[start - 1 : -1].log_softmax(-1)
    return logp.gather(1, ids[0, start:, None])[:, 0]


def naive(
    policy: LocalPolicy, groups: Sequence[TrainedGroup], settings: UpdateSettings
) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Loss, gradient norm and gradients from whole sequences, one by one, all tokens shaped."""
    pairs = [(g, r) for g in groups for r in g.responses]
    with torch.no_grad(), adapter.switched_off(policy._layers):
        base = [plain_logprobs(policy, g, r, settings.temperature).numpy() for g, r in pairs]
    sampled = np.concatenate([r.logprobs for _, r in pairs])
    mask = np.concatenate([r.mask for _, r in pairs])
    each = np.concatenate([np.full(len(r.mask), r.advantage) for _, r in pairs])
    shaped = shape_kl(sampled, np.concatenate(base), mask, each, coef=settings.kl)
    train = torch.cat([plain_logprobs(policy, g, r, settings.temperature) for g, r in pairs])
    weight = torch.from_numpy(shaped * mask).float()
    ratio = torch.where(torch.from_numpy(mask), train - torch.from_numpy(sampled), 0.0).exp()
    parameters = policy._trainer.parameters
    found = torch.autograd.grad(-(ratio * weight).sum(), list(parameters.values()))
    norm = float(torch.sqrt(sum((g.double() ** 2).sum() for g in found)))
    loss = importance_loss(train.detach().numpy(), sampled, shaped, mask)
    return loss, norm, dict(zip(parameters, found, strict=True))


def gradients(policy: LocalPolicy) -> dict[str, torch.Tensor]:
    named = policy._trainer.parameters.items()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_loss_and_gradients_equal_those_of_separate_sequences(family: str, tmp_path: Path) -> None:
    policy = opened(write_tiny_model(tmp_path, family=family, tied=family == "qwen2"))
    with torch.no_grad():
        for layer in policy._layers.values():
            layer.lora_B.normal_(0, 0.05)
    loss, norm, expected = naive(policy, batch(), SETTINGS)
    metrics = policy._trainer.update(batch(), SETTINGS)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-4)
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert any("lm_head" in name for name in expected)
    for name, found in gradients(policy).items():
        torch.testing.assert_close(found, expected[name], atol=2e-5 * norm, rtol=1e-3)


def test_forced_tokens_have_no_influence(policy: LocalPolicy) -> None:
    first, second = batch(groups=1), batch(groups=1)
    for r in second[0].responses:
        r.logprobs[~r.mask] = -30.0
    assert run(policy, first)[0] == run(policy, second)[0]


def run(
    policy: LocalPolicy, groups: Sequence[TrainedGroup], settings: UpdateSettings = SETTINGS
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients without keeping the step."""
    before = {name: p.detach().clone() for name, p in policy._trainer.parameters.items()}
    loss = policy._trainer.update(groups, settings)["loss"]
    found = gradients(policy)
    with torch.no_grad():
        for name, p in policy._trainer.parameters.items():
            p.copy_(before[name])
    policy._trainer.restore({})
    return loss, found


@pytest.mark.parametrize("size", [1, 3, 64])
def test_the_split_into_micro_batches_does_not_change_the_sum(
    policy: LocalPolicy, size: int
) -> None:
    _, expected = run(policy, batch())
    _, found = run(policy, batch(), replace(SETTINGS, micro_batch=size))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-3)


def test_without_kl_attempts_of_no_advantage_are_left_out_without_effect(
    policy: LocalPolicy,
) -> None:
    settings = replace(SETTINGS, kl=0.0)
    group = batch(groups=1)[0]
    idle = tuple(replace(r, advantage=0.0) for r in group.responses[2:])
    with_idle = replace(group, responses=(*group.responses[:2], *idle))
    without = replace(group, responses=group.responses[:2])
    assert run(policy, [with_idle], settings)[0] == run(policy, [without], settings)[0]


def test_a_batch_without_signal_still_takes_an_optimizer_step(policy: LocalPolicy) -> None:
    policy._trainer.update(batch(), SETTINGS)
    before = next(iter(policy._trainer.state().values()))["step"].item()
    idle = [replace(g, responses=()) for g in batch()]
    policy._trainer.update(idle, SETTINGS)
    assert next(iter(policy._trainer.state().values()))["step"].item() == before + 1


def test_substeps_take_one_optimizer_step_for_each_chunk(policy: LocalPolicy) -> None:
    policy._trainer.update(batch(), replace(SETTINGS, substeps=2))
    assert next(iter(policy._trainer.state().values()))["step"].item() == 2


def test_in_version_0_the_policy_is_the_base_model(folder: Path) -> None:
    policy = opened(folder)
    assert policy._trainer.update(batch(), SETTINGS)["kl_policy_base"] == 0.0


WAVE = Wave(
    run_seed=1,
    step=0,
    group_index=0,
    slots=tuple(range(6)),
    prompt_ids=tuple(range(30, 60)),
    max_new_tokens=25,
    temperature=0.9,
    stop=("a", "e", "t", "\n"),
)


def sampled(policy: LocalPolicy) -> list[TrainedGroup]:
    """What the policy says now."""
    trained = tuple(
        TrainedResponse(token_ids=r.token_ids, logprobs=r.logprobs, mask=r.mask, advantage=1.0)
        for r in policy.sample(WAVE)
    )
    return [TrainedGroup(prompt_ids=WAVE.prompt_ids, responses=trained)]


@pytest.mark.parametrize("fused", [False, True])
def test_a_trained_bfloat16_adapter_is_what_sampler_and_trainer_use(
    folder: Path, fused: bool
) -> None:
    """Fused Adam is CUDA's here; a trainer that kept the adapter of version 0 learned nothing."""
    policy = LocalPolicy(folder, lora_rank=4, lora_alpha=8, seed=5, threads=1, dtype="bfloat16")
    policy.ensure(Version(number=0))
    trainer = policy._trainer
    trainer.adam = torch.optim.Adam(trainer.parameters.values(), fused=fused)
    settings = replace(SETTINGS, lr=0.1)
    before = sampled(policy)
    trainer.update(before, settings)
    after = sampled(policy)
    assert trainer.update(after, settings)["logprob_gap_half_mean_square"] < 0.01
    assert trainer.update(before, settings)["logprob_gap_half_mean_square"] > 0.1


def test_the_trainer_reproduces_the_samplers_logprobs(policy: LocalPolicy) -> None:
    metrics = policy._trainer.update(sampled(policy), SETTINGS)
    assert abs(metrics["logprob_gap_mean"]) < 1e-5
    assert metrics["logprob_gap_half_mean_square"] < 1e-9


def test_an_update_from_a_loaded_checkpoint_equals_one_that_went_on_in_memory(
    folder: Path, tmp_path: Path
) -> None:
    stayed = opened(folder)
    first = stayed.update(batch(seed=1), SETTINGS, tmp_path / "1")
    second = stayed.update(batch(seed=2), SETTINGS, tmp_path / "2")
    resumed = opened(folder)
    resumed.ensure(Version(number=1, folder=tmp_path / "1", sha256=first.sha256))
    again = resumed.update(batch(seed=2), SETTINGS, tmp_path / "2b")
    assert again.files == second.files
    assert (tmp_path / "2" / "adapter_model.safetensors").read_bytes() == (
        tmp_path / "2b" / "adapter_model.safetensors"
    ).read_bytes()


def test_a_repeated_update_starts_from_the_stored_version(folder: Path, tmp_path: Path) -> None:
    policy = opened(folder)
    first = policy.update(batch(), SETTINGS, tmp_path / "a")
    policy.ensure(Version(number=0))
    assert policy.update(batch(), SETTINGS, tmp_path / "b").files == first.files


def test_a_failed_update_leaves_no_version_resident(folder: Path, tmp_path: Path) -> None:
    policy = opened(folder)
    broken = [TrainedGroup(prompt_ids=(10**6,), responses=batch()[0].responses)]
    with pytest.raises(IndexError):
        policy.update(broken, SETTINGS, tmp_path)
    with pytest.raises(RuntimeError, match="ensure"):
        policy.update(batch(), SETTINGS, tmp_path)


@pytest.mark.parametrize(
    "name", ["adapter_model.safetensors", "optimizer.safetensors", "manifest.json"]
)
def test_an_altered_checkpoint_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    policy = opened(folder)
    report = policy.update(batch(), SETTINGS, tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(data)
    policy.ensure(Version(number=0))
    with pytest.raises(CheckpointDamaged):
        policy.ensure(Version(number=1, folder=tmp_path, sha256=report.sha256))


def test_a_missing_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointDamaged, match="missing"):
        opened(folder).ensure(Version(number=1, folder=tmp_path / "none", sha256="0"))


@pytest.mark.parametrize("tied", [True, False])
def test_peft_opens_the_adapter_and_computes_the_same(tmp_path: Path, tied: bool) -> None:
    folder = write_tiny_model(tmp_path / "model", tied=tied)
    policy = opened(folder)
    policy.update(batch(), SETTINGS, tmp_path / "adapter")
    model = AutoModelForCausalLM.from_pretrained(folder)
    loaded = PeftModel.from_pretrained(model, tmp_path / "adapter")
    ids = torch.tensor([[5, 9, 200, 31]])
    with torch.no_grad():
        found, expected = loaded(ids).logits, policy._model(ids).logits
        plain = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (expected - plain).abs().max() > 1e-2


def test_the_adapter_of_version_0_follows_from_the_seed(folder: Path, tmp_path: Path) -> None:
    names = []
    for seed in (5, 5, 6):
        policy = LocalPolicy(folder, lora_rank=4, lora_alpha=8, seed=seed, threads=1)
        policy.ensure(Version(number=0))
        out = tmp_path / f"{len(names)}"
        names.append(policy.update(batch(), SETTINGS, out).sha256)
    assert names[0] == names[1] != names[2]
    assert all(
        t.dtype == torch.float32 for t in load_file(out / "adapter_model.safetensors").values()
    )


@pytest.mark.parametrize("writing", ["copied", "stepped"])
def test_a_converted_adapter_follows_what_is_written_to_it(writing: str) -> None:
    torch.manual_seed(0)
    layer = adapter.AdaptedLinear(torch.nn.Linear(16, 24).bfloat16(), rank=4, alpha=4)
    x = torch.randn(3, 16).bfloat16()
    with torch.no_grad():
        layer.lora_A.normal_()
        before = layer(x)
    if writing == "copied":
        with torch.no_grad():
            layer.lora_B.copy_(torch.randn(24, 4))
    else:
        layer(x).float().sum().backward()
        torch.optim.Adam(layer.parameters(), lr=0.1).step()
    with torch.no_grad():
        assert not torch.equal(layer(x), before)
        low = (x @ layer.lora_A.bfloat16().t()).float()
        wanted = torch.nn.functional.linear(x.float(), layer.weight.float(), layer.bias.float())
        wanted += low @ layer.lora_B.bfloat16().float().t()
        torch.testing.assert_close(layer(x).float(), wanted, rtol=0.01, atol=0.02)
