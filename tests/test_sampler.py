"""Sampling of waves: exact log-probs, exact replay, stop strings, two phases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from eurekaflow.models.counters import uniforms
from eurekaflow.models.kernels import draw
from eurekaflow.models.local import LocalPolicy
from eurekaflow.models.policy import Prompt, Response, Version, Wave
from eurekaflow.models.renderer import SENTENCE, Renderer
from tests.tiny_models import END, byte_tokenizer, write_tiny_model

WAVE = Wave(
    run_seed=7,
    step=2,
    group_index=1,
    slots=(0, 1, 2, 3, 5, 8),
    prompt_ids=tuple(range(40, 90)),
    max_new_tokens=70,
    temperature=0.8,
    stop=tuple("abcdefgh"),  # some rows end early
)
Same = Callable[[Response, Response], bool]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def policy(folder: Path) -> LocalPolicy:
    return opened(folder)


def opened(folder: Path) -> LocalPolicy:
    policy = LocalPolicy(folder, lora_rank=4, lora_alpha=8, seed=5, threads=1, dtype="float32")
    policy.ensure(Version(number=0))
    with torch.no_grad():  # an adapter that has an effect
        generator = torch.Generator().manual_seed(1)
        for layer in policy._layers.values():
            layer.lora_B.normal_(0, 0.05, generator=generator)
    return policy


def same(a: Response, b: Response) -> bool:
    return (
        a.token_ids.tobytes() == b.token_ids.tobytes()
        and a.logprobs.tobytes() == b.logprobs.tobytes()
        and (a.attempt_index, a.text, a.finish) == (b.attempt_index, b.text, b.finish)
    )


def plain_logprobs(policy: LocalPolicy, wave: Wave, response: Response) -> np.ndarray:
    """A full forward pass over one sequence, without any sharing."""
    ids = torch.tensor([[*wave.prompt_ids, *response.token_ids.tolist()]])
    with torch.no_grad():
        logits = policy._model(input_ids=ids, use_cache=False).logits[0]
    start = len(wave.prompt_ids) - 1
    scaled = (logits[start:-1] / wave.temperature).double().log_softmax(-1)
    return scaled.gather(1, ids[0, start + 1 :, None])[:, 0].numpy()


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_sampled_logprobs_equal_a_plain_forward_pass(family: str, tmp_path: Path) -> None:
    policy = opened(write_tiny_model(tmp_path, family=family, tied=family != "llama"))
    for response in policy.sample(WAVE):
        expected = plain_logprobs(policy, WAVE, response)
        np.testing.assert_allclose(response.logprobs, expected, atol=1e-4)


def test_the_shared_prefix_attention_equals_transformers_own(folder: Path) -> None:
    ids = torch.tensor([WAVE.prompt_ids])
    policy = LocalPolicy(folder, lora_rank=4, lora_alpha=8, seed=5, threads=1, dtype="float32")
    eager = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with torch.no_grad():
        found, expected = policy._model(ids).logits, eager(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_sampled_tokens_equal_those_of_a_naive_sampler(policy: LocalPolicy) -> None:
    for response in policy.sample(replace(WAVE, max_new_tokens=20, stop=())):
        ids = list(WAVE.prompt_ids)
        for position, token in enumerate(response.token_ids.tolist()):
            with torch.no_grad():
                logits = policy._model(input_ids=torch.tensor([ids]), use_cache=False).logits
            chances = (logits[0, -1].double() / WAVE.temperature).softmax(-1).numpy()
            u = uniforms(
                run_seed=WAVE.run_seed,
                step=WAVE.step,
                group=WAVE.group_index,
                attempts=[response.attempt_index],
                position=position,
            )
            assert int(np.searchsorted(chances.cumsum(), u[0])) == token
            ids.append(token)


def test_the_same_wave_gives_identical_bits(policy: LocalPolicy) -> None:
    first, second = list(policy.sample(WAVE)), list(policy.sample(WAVE))
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


def test_another_process_would_draw_the_same_adapter_and_tokens(folder: Path) -> None:
    first, second = (list(opened(folder).sample(WAVE)) for _ in range(2))
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


def test_a_row_draws_the_same_tokens_whatever_else_is_in_the_wave(policy: LocalPolicy) -> None:
    alone = replace(WAVE, slots=(5,))
    together = {r.attempt_index: r for r in policy.sample(WAVE)}
    assert next(policy.sample(alone)).token_ids.tolist() == together[5].token_ids.tolist()


def test_every_slot_is_answered_once_in_order_of_length(policy: LocalPolicy) -> None:
    responses = list(policy.sample(WAVE))
    lengths = [len(r.token_ids) for r in responses]
    assert sorted(r.attempt_index for r in responses) == list(WAVE.slots)
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 1, "some row must leave the batch early for this test to mean much"


def test_a_response_longer_than_the_first_buffer_goes_on(policy: LocalPolicy) -> None:
    wave = replace(WAVE, max_new_tokens=140, temperature=1.5, stop=())
    longest = list(policy.sample(wave))[-1]
    assert len(longest.token_ids) > 64
    np.testing.assert_allclose(longest.logprobs, plain_logprobs(policy, wave, longest), atol=1e-4)


def test_generation_ends_once_the_text_contains_a_stop_string(policy: LocalPolicy) -> None:
    free = [r for r in policy.sample(replace(WAVE, stop=())) if len(r.text) > 6]
    stop = free[0].text[3:5]  # something that is known to be sampled
    for response in policy.sample(replace(WAVE, stop=(stop,))):
        before = policy.renderer.decode(response.token_ids[:-1])
        assert stop not in before
        assert (
            (stop in response.text)
            or response.token_ids[-1] in policy.renderer.stop_ids
            or (response.finish == "length")
        )
    stopped = {r.attempt_index: r for r in policy.sample(replace(WAVE, stop=(stop,)))}
    assert stopped[free[0].attempt_index].finish == "stop"
    assert stop in stopped[free[0].attempt_index].text


def test_a_stop_token_is_part_of_the_response_but_not_of_its_text(policy: LocalPolicy) -> None:
    wave = replace(WAVE, slots=tuple(range(40)), max_new_tokens=150, temperature=2.0, stop=())
    end = policy.renderer.tokenizer.eos_token_id
    ended = [r for r in policy.sample(wave) if r.token_ids[-1] == end]
    assert ended
    assert all(r.finish == "stop" and r.mask[-1] and END not in r.text for r in ended)


def test_a_prompt_without_room_is_refused(policy: LocalPolicy) -> None:
    with pytest.raises(ValueError, match="leaves no room"):
        list(policy.sample(replace(WAVE, window=90)))


def test_thinking_rows_are_forced_to_answer_at_the_bound(policy: LocalPolicy) -> None:
    renderer = thinking_renderer()
    policy._sampler.renderer = renderer
    try:
        wave = replace(WAVE, phase1_tokens=len(WAVE.prompt_ids) + 10, max_new_tokens=120, stop=())
        forced = [r for r in policy.sample(wave) if r.forced]
    finally:
        policy._sampler.renderer = policy.renderer
    assert forced
    for response in forced:
        inserted = renderer.forced(response.token_ids[:10].tolist())
        part = slice(10, 10 + len(inserted))
        assert tuple(response.token_ids[part].tolist()) == inserted
        assert not response.mask[part].any()
        assert not response.logprobs[part].any()
        assert response.mask[:10].all()
        assert response.mask[part.stop :].all()
        assert SENTENCE in response.text


def test_sampled_logprobs_after_a_forced_answer_are_those_of_the_whole_text(
    policy: LocalPolicy,
) -> None:
    policy._sampler.renderer = thinking_renderer()
    try:
        wave = replace(WAVE, phase1_tokens=len(WAVE.prompt_ids) + 10, max_new_tokens=120, stop=())
        responses = [r for r in policy.sample(wave) if r.forced]
    finally:
        policy._sampler.renderer = policy.renderer
    for response in responses:
        expected = plain_logprobs(policy, wave, response) * response.mask
        np.testing.assert_allclose(response.logprobs, expected, atol=1e-4)


def thinking_renderer() -> Renderer:
    tokenizer = byte_tokenizer("{{ messages[-1].content }}</think>")
    return Renderer(tokenizer, stop_ids=[], date="2026-01-01")


def test_a_prompt_is_rendered_by_the_template_and_ends_with_its_opening(
    policy: LocalPolicy,
) -> None:
    text = policy.renderer.render(Prompt(text="Do it.", opening="```python\n"))
    assert text.endswith("<|im_start|>user\nDo it.<|im_end|>\n<|im_start|>assistant\n```python\n")


def test_a_template_with_a_date_shows_the_date_of_the_run() -> None:
    tokenizer = byte_tokenizer("{{ strftime_now('%Y-%m-%d') }} {{ messages[-1].content }}")
    assert Renderer(tokenizer, date="2031-02-03").render(Prompt(text="x")) == "2031-02-03 x"


def test_uniforms_are_uniform_and_differ_in_every_counter() -> None:
    counters: dict[str, Any] = {"run_seed": 1, "step": 2, "group": 3, "position": 4}
    many = uniforms(**counters, attempts=range(20000))
    assert many.min() > 0
    assert many.max() < 1
    assert abs(np.histogram(many, 10)[0] / 2000 - 1).max() < 0.1
    for name in counters:
        other = uniforms(**{**counters, name: 9}, attempts=range(20000))
        assert abs(np.corrcoef(many, other)[0, 1]) < 0.03


def test_the_block_sampler_draws_each_token_as_often_as_its_probability() -> None:
    logits = torch.linspace(0, 3, 1300).repeat(4000, 1)
    u = torch.linspace(0, 1, 4002, dtype=torch.float64)[1:-1]
    ids, logprobs = draw(logits.clone(), u, temperature=1.0)
    expected = torch.linspace(0, 3, 1300).double().softmax(0)
    assert (ids == torch.searchsorted(expected.cumsum(0), u)).double().mean() > 0.999
    torch.testing.assert_close(logprobs.double(), expected[ids].log(), atol=1e-5, rtol=1e-5)


def test_the_block_sampler_never_draws_a_token_of_probability_zero() -> None:
    logits = torch.full((2, 1100), float("-inf"))
    logits[:, 700] = 0.0
    ids, logprobs = draw(logits, torch.tensor([1e-16, 1 - 1e-16]).double(), temperature=1.0)
    assert ids.tolist() == [700, 700]
    assert logprobs.tolist() == [0.0, 0.0]
