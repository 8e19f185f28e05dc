"""All groups in flight together: the responses of the wave sampler, whatever the room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eurekaflow.models import group_sampler
from eurekaflow.models.group_sampler import GroupSampler
from eurekaflow.models.local import LocalPolicy, together
from eurekaflow.models.policy import Response, Version, Wave
from eurekaflow.models.renderer import Renderer
from tests.tiny_models import byte_tokenizer, write_tiny_model

FIRST = Wave(
    run_seed=7,
    step=2,
    group_index=1,
    slots=(0, 1, 2, 3, 5, 8),
    prompt_ids=tuple(range(40, 90)),
    max_new_tokens=30,
    temperature=0.8,
    stop=("a", "bc", "\n"),
    window=512,
)
WAVES = (FIRST, replace(FIRST, group_index=3, prompt_ids=tuple(range(60, 85)), slots=(4, 9, 11)))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> LocalPolicy:
    return opened(write_tiny_model(tmp_path_factory.mktemp("tiny")))


def opened(folder: Path) -> LocalPolicy:
    policy = LocalPolicy(
        folder, lora_rank=4, lora_alpha=8, seed=5, threads=1, dtype="float32", device="cpu"
    )
    policy.ensure(Version(number=0))
    with torch.no_grad():  # an adapter that has an effect
        generator = torch.Generator().manual_seed(1)
        for layer in policy._layers.values():
            layer.lora_B.normal_(0, 0.05, generator=generator)
    return policy


def sampler(policy: LocalPolicy, renderer: Renderer | None = None, **kwargs: bool) -> GroupSampler:
    model = policy._model
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    made = together(decoder, head, renderer or policy.renderer, **kwargs)
    made.refresh()
    return made


Found = dict[tuple[int, int], Response]


def by_slot(found: Sequence[tuple[int, Response]]) -> Found:
    slots = {(wave, response.attempt_index): response for wave, response in found}
    assert len(slots) == len(found)
    return slots


def assert_same(found: Found, expected: Found) -> None:
    """Equal responses; one may part where its uniform fell on the edge between two tokens."""
    assert found.keys() == expected.keys()
    parted = [key for key in expected if not same_tokens(found[key], expected[key])]
    assert len(parted) <= len(expected) // 8
    for key in expected.keys() - set(parted):
        one, other = expected[key], found[key]
        assert (other.text, other.finish, other.forced) == (one.text, one.finish, one.forced)
        assert other.mask.tolist() == one.mask.tolist()
        np.testing.assert_allclose(other.logprobs, one.logprobs, atol=1e-4)


def same_tokens(a: Response, b: Response) -> bool:
    return a.token_ids.tolist() == b.token_ids.tolist()


def one_by_one(policy: LocalPolicy, waves: Sequence[Wave]) -> Found:
    return by_slot([(i, r) for i, wave in enumerate(waves) for r in policy.sample(wave)])


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_all_groups_together_get_the_responses_of_each_wave_alone(
    family: str, tmp_path: Path
) -> None:
    policy = opened(write_tiny_model(tmp_path, family=family, tied=family != "llama"))
    found = by_slot(list(sampler(policy, fused=False).sample(WAVES)))
    assert_same(found, one_by_one(policy, WAVES))


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_the_written_out_step_equals_the_models_own_modules(family: str, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    policy = opened(write_tiny_model(tmp_path, family=family))
    waves = [replace(wave, max_new_tokens=4, slots=wave.slots[:2]) for wave in WAVES]
    expected = one_by_one(policy, waves)
    assert_same(by_slot(list(sampler(policy, fused=True).sample(waves))), expected)


def test_trained_adapters_reach_the_written_out_step(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    policy = opened(write_tiny_model(tmp_path))
    waves = [replace(FIRST, max_new_tokens=2, slots=(0, 1))]
    made = sampler(policy)
    with torch.no_grad():
        for layer in policy._layers.values():
            layer.lora_A.mul_(2.0)
    made.refresh()
    assert_same(by_slot(list(made.sample(waves))), one_by_one(policy, waves))


@pytest.mark.slow
def test_rows_wait_where_there_is_no_room_and_still_get_the_same_tokens(
    policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GroupSampler, "_affordable", lambda self, wanted, held: 2 + 1 + 4)
    made = sampler(policy, fused=False)
    waves = [replace(wave, max_new_tokens=68, stop=()) for wave in WAVES]
    assert_same(by_slot(list(made.sample(waves))), one_by_one(policy, waves))
    assert made._steps is not None
    assert len(made._steps.cache.free) == 6, "every page is free again"


def test_without_room_for_one_response_the_sampler_says_so(
    policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GroupSampler, "_affordable", lambda self, wanted, held: 3)
    with pytest.raises(MemoryError, match="single response"):
        list(sampler(policy, fused=False).sample(WAVES))


@pytest.mark.parametrize("look", [3, 32])
def test_how_often_the_host_looks_changes_nothing(
    policy: LocalPolicy, monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    monkeypatch.setattr(group_sampler, "LOOK", look)
    found = by_slot(list(sampler(policy, fused=False).sample(WAVES)))
    assert_same(found, one_by_one(policy, WAVES))
    assert len({len(r.token_ids) for r in found.values()}) > 1, "some row must end early"


@pytest.mark.slow
def test_thinking_rows_are_forced_to_answer_as_in_a_wave_alone(policy: LocalPolicy) -> None:
    tokenizer = byte_tokenizer("{{ messages[-1].content }}</think>")
    renderer = Renderer(tokenizer, stop_ids=[], date="2026-01-01")
    waves = [
        replace(wave, phase1_tokens=len(wave.prompt_ids) + 10, max_new_tokens=120, stop=())
        for wave in WAVES
    ]
    found = by_slot(list(sampler(policy, renderer, fused=False).sample(waves)))
    policy._sampler.renderer = renderer
    try:
        expected = one_by_one(policy, waves)
    finally:
        policy._sampler.renderer = policy.renderer
    assert any(response.forced for response in found.values())
    assert_same(found, expected)


def test_a_prompt_of_one_token_is_enough(policy: LocalPolicy) -> None:
    waves = [replace(FIRST, prompt_ids=(65,), max_new_tokens=6)]
    found = by_slot(list(sampler(policy, fused=False).sample(waves)))
    assert_same(found, one_by_one(policy, waves))


def test_a_sampler_left_halfway_gives_its_pages_back(policy: LocalPolicy) -> None:
    made = sampler(policy, fused=False)
    responses = made.sample([replace(wave, stop=("e", "a")) for wave in WAVES])
    next(responses)
    responses.close()
    assert made._steps is not None
    cache = made._steps.cache
    assert sorted(cache.free) == list(range(1, cache.keys.shape[1]))
