"""Every Triton kernel against its torch reference: under the interpreter, or on the GPU if any."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from eurekaflow.models import (
    attention_kernels,
    layer_kernels,
    logit_kernels,
    paged_attention,
    sampling_kernels,
)
from eurekaflow.models.counters import from_seeds, row_seeds
from eurekaflow.models.kernels import draw
from eurekaflow.models.prefix_attention import Seen

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PROMPTS, OWN = (21, 0, 34), (0, 5, 18, 32, 15)  # tokens of each prompt, of each row
ROW_PROMPT = (0, 0, 1, 2, 2)


def paged(size: int, heads: int, groups: int) -> tuple[torch.Tensor, ...]:
    """q, keys, values and tables of random pages, 16 tokens each."""
    generator = torch.Generator().manual_seed(size)
    keys, values = torch.randn(2, 40, groups, 16, size, generator=generator).to(DEVICE)
    order = (torch.randperm(39, generator=generator) + 1).int()
    tiles = [(0, 2, 0), (2, 1, 1), (3, 2, 2), (0, 0, 0)]
    whole = {"dtype": torch.int32, "device": DEVICE}
    return (
        torch.randn(5, heads, size, generator=generator).to(DEVICE),
        keys,
        values,
        torch.tensor(tiles, **whole),
        order[:15].view(3, 5).to(DEVICE),
        torch.tensor(PROMPTS, **whole),
        torch.cat([order[15:], order[:1]]).view(5, 5).to(DEVICE),
        torch.tensor(OWN, **whole),
    )


@pytest.mark.parametrize(
    ("window", "sinks", "cap", "heads", "groups", "size"),
    [(None, False, None, 6, 2, 16), (11, True, 0.7, 2, 2, 24)],
)
def test_paged_attention_equals_its_reference(
    window: int | None, sinks: bool, cap: float | None, heads: int, groups: int, size: int
) -> None:
    inputs = paged(size, heads, groups)
    seen = Seen(window, torch.linspace(-1, 1, heads, device=DEVICE) if sinks else None, cap)
    kernels = attention_kernels.PagedAttention(
        rows=5, heads=heads, groups=groups, size=size, device=DEVICE
    )
    expected = paged_attention.attend(*inputs, scale=0.3, seen=seen)
    found = kernels.attend(*inputs, scale=0.3, seen=seen)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


def test_the_device_draws_the_tokens_of_the_counters_with_their_logprobs() -> None:
    logits = 3 * torch.randn(6, 2500, generator=torch.Generator().manual_seed(1))
    logits[:, 1100:1300] = float("-inf")
    seeds = row_seeds(run_seed=3, step=1, group=2, attempts=range(6))
    places = np.arange(6, dtype=np.int64)
    uniform = torch.from_numpy(from_seeds(seeds, places))
    ids, logprobs = draw(logits.clone(), uniform, temperature=0.7)
    found, found_logprobs = sampling_kernels.draw(
        logits.to(DEVICE),
        torch.from_numpy(seeds).to(DEVICE),
        torch.from_numpy(places.astype(np.int32)).to(DEVICE),
        temperature=0.7,
    )
    assert found.tolist() == ids.tolist()
    torch.testing.assert_close(found_logprobs.cpu(), logprobs, atol=1e-5, rtol=1e-5)


def test_a_token_of_probability_zero_is_never_drawn_on_the_device() -> None:
    logits = torch.full((8, 3000), float("-inf"), device=DEVICE)
    logits[:, 2100] = 0.0
    seeds = torch.arange(8, device=DEVICE)
    ids, logprobs = sampling_kernels.draw(logits, seeds, seeds.int(), temperature=1.0)
    assert ids.tolist() == [2100] * 8
    assert not logprobs.any()


def test_the_residual_sum_and_norm_equal_torch() -> None:
    x, more = torch.randn(2, 7, 48, device=DEVICE)
    weight = torch.rand(48, device=DEVICE)
    total = x + more
    expected = torch.nn.functional.rms_norm(total, (48,), weight, 1e-6)
    found = layer_kernels.add_norm(x, more, weight, 1e-6)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(x, total)


@pytest.mark.parametrize("rank", [3, 16])
def test_the_gated_activation_adds_the_adapters_and_equals_torch(rank: int) -> None:
    x = torch.randn(5, 2 * 150 + 2 * rank, device=DEVICE)
    one, other = torch.randn(2, 150, rank, device=DEVICE)
    g = x[:, :150] + x[:, 300 : 300 + rank] @ one.t()
    u = x[:, 150:300] + x[:, 300 + rank :] @ other.t()
    found = layer_kernels.gate(x, torch.block_diag(one, other))
    expected = torch.nn.functional.silu(g) * u
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("normed", [False, True])
def test_rotation_and_store_equal_torch(normed: bool) -> None:
    heads, groups, size, rows = 4, 2, 16, 3
    qkv = torch.randn(rows, (heads + 2 * groups) * size + 5, device=DEVICE)
    angle = torch.rand(rows, size, device=DEVICE)
    keys, values = torch.zeros(2, 9, groups, 8, size, device=DEVICE)
    page = torch.tensor([2, 5, 7], device=DEVICE)
    offset = torch.tensor([0, 3, 7], device=DEVICE)
    weights = torch.rand(2, size, device=DEVICE)
    norms = (weights[0], weights[1], 1e-6) if normed else None
    found = layer_kernels.rotate_store(
        qkv, angle.cos(), angle.sin(), keys, values, page, offset, heads=heads, norms=norms
    )
    parts = qkv[:, :-5].view(rows, -1, size)
    q, k, v = parts[:, :heads], parts[:, heads : heads + groups], parts[:, heads + groups :]
    if normed:
        q, k = (
            torch.nn.functional.rms_norm(x, (size,), w, 1e-6)
            for x, w in zip((q, k), weights, strict=True)
        )
    torch.testing.assert_close(found, rotated(q, angle), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(keys[page, :, offset], rotated(k, angle), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(values[page, :, offset], v)


def rotated(x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    left, right = x.chunk(2, dim=-1)
    turned = torch.cat([-right, left], dim=-1)
    return x * angle.cos()[:, None] + turned * angle.sin()[:, None]


def test_target_logprobs_and_logit_gradients_equal_torch() -> None:
    logits = 3 * torch.randn(4, 5000, device=DEVICE)
    targets = torch.tensor([0, 17, 4095, 4999], device=DEVICE)
    slope = torch.tensor([1.0, -2.0, 0.5, 0.0], device=DEVICE)
    leaf = logits.clone().requires_grad_()
    expected = (leaf / 0.7).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    (expected * slope * 0.7).sum().backward()  # the slope carries the temperature already
    logp, total = logit_kernels.row_logprobs(logits, targets, temperature=0.7)
    found = logit_kernels.logit_gradient(
        logits, targets, total, slope, temperature=0.7, dtype=torch.float32
    )
    torch.testing.assert_close(logp, expected.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found, leaf.grad, atol=1e-6, rtol=1e-5)
