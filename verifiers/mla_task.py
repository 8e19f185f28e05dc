"""MLA decode as the reference worker computes it: cases, inputs, expected output, floors.

One decode step of multi-head latent attention (DeepSeek-V2, section 2.1) in bfloat16, batch 128.
The new latent row is appended at position `prefill`; keys and values are expanded from all
prefill + 1 latent rows, batch by batch here, so that the expansion fits any card. RoPE in bfloat16
in half-rotation layout. The cases are those of GPU MODE's task `mla-decode`. Trusted worker only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

BATCH, DIM, Q_RANK, HEADS, KV_RANK = 128, 7168, 1536, 128, 512
NOPE, ROPE, VALUE, ROWS = 128, 64, 128, 8192
RTOL, ATOL = 2e-2, 8e-3
AT_ONCE = 4  # batch rows expanded together
CACHE = "kv_cache.data"
MAY_ALIAS = [False, True]
CHANGED_BY_A_CALL = (CACHE,)
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """How many rows the cache holds."""

    prefill: int


def inputs(case: Case) -> list[tuple[str, str, tuple[int, ...]]]:
    """(name, dtype, shape) of every tensor a call is given."""
    sizes = {
        "x": (BATCH, 1, DIM),
        "Q_proj_down_weight": (Q_RANK, DIM),
        "Q_proj_up_weight": ((NOPE + ROPE) * HEADS, Q_RANK),
        "KV_proj_down_weight": (KV_RANK + ROPE, DIM),
        "KV_proj_up_weight": ((NOPE + VALUE) * HEADS, KV_RANK),
        "wo_weight": (DIM, HEADS * VALUE),
        CACHE: (BATCH, ROWS, KV_RANK + ROPE),
    }
    return [(name, "bfloat16", shape) for name, shape in sizes.items()]


def outputs(case: Case) -> list[tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of what a call returns."""
    return [("bfloat16", (BATCH, 1, DIM)), ("bfloat16", (BATCH, ROWS, KV_RANK + ROPE))]


def recipe(case: Case) -> dict[str, Any]:
    """The argument of a call: (config, x, kv_cache)."""
    names = [name for name, _, _ in inputs(case)]
    numbers = {
        "batch_size": BATCH, "dim": DIM, "n_heads": HEADS, "q_lora_rank": Q_RANK,
        "kv_lora_rank": KV_RANK, "qk_nope_head_dim": NOPE, "qk_rope_head_dim": ROPE,
        "v_head_dim": VALUE, "seq_len": 1, "max_seq_len": ROWS,
        "kv_cache_shape": [BATCH, ROWS, KV_RANK + ROPE],
    }  # fmt: skip
    config: dict[str, Any] = {name: {"value": value} for name, value in numbers.items()}
    config |= {n: {"tensor": i} for i, n in enumerate(names) if n.endswith("_weight")}
    cache = {"data": {"tensor": names.index(CACHE)}, "seq_len": {"value": case.prefill}}
    return {"tuple": [{"object": config}, {"tensor": 0}, {"cache": cache}]}


def fill(case: Case, tensors: Tensors, generator: torch.Generator) -> None:
    """Draw inputs and weights in place; rows beyond the prefill are zero."""
    for name, tensor in tensors.items():
        if name == CACHE:
            tensor.zero_()
            tensor[:, : case.prefill].normal_(generator=generator)
        else:
            tensor.normal_(generator=generator)
            if name.endswith("_weight"):
                tensor.div_(math.sqrt(tensor.shape[1]))


def rotated(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """RoPE of x [..., positions, 64] in its own precision."""
    half = ROPE // 2
    steps = torch.arange(half, device=x.device, dtype=x.dtype) / half
    angle = positions.to(x.dtype)[:, None] * (10000.0 ** (-steps))[None, :]
    angle = torch.cat((angle, angle), dim=-1)
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * angle.cos() + turned * angle.sin()


def expected(case: Case, tensors: Tensors) -> list[torch.Tensor]:
    """What a call must return: [the output, the whole updated cache]."""
    t, end = tensors, case.prefill + 1
    x = t["x"]
    q = (x @ t["Q_proj_down_weight"].T) @ t["Q_proj_up_weight"].T
    q = q.view(BATCH, 1, HEADS, NOPE + ROPE).transpose(1, 2)
    q_nope, q_rope = torch.split(q, [NOPE, ROPE], dim=-1)
    cache = t[CACHE].clone()
    cache[:, case.prefill : end] = x @ t["KV_proj_down_weight"].T
    positions = torch.arange(end, device=x.device)
    q = torch.cat((q_nope, rotated(q_rope, positions[-1:])), dim=-1)
    parts = [
        _attended(q[i : i + AT_ONCE], cache[i : i + AT_ONCE, :end], positions, t)
        for i in range(0, BATCH, AT_ONCE)
    ]
    return [torch.cat(parts) @ t["wo_weight"].T, cache]


def _attended(
    q: torch.Tensor, latent: torch.Tensor, positions: torch.Tensor, t: Tensors
) -> torch.Tensor:
    """Some batch rows' attention [b, 1, heads * value] from q [b, heads, 1, 192]."""
    count, end = latent.shape[:2]
    wide = latent[..., :KV_RANK] @ t["KV_proj_up_weight"].T
    wide = wide.view(count, end, HEADS, NOPE + VALUE).transpose(1, 2)
    k_nope, value = torch.split(wide, [NOPE, VALUE], dim=-1)
    k_rope = rotated(latent[..., KV_RANK:], positions)[:, None].expand(-1, HEADS, -1, -1)
    scores = q @ torch.cat((k_nope, k_rope), dim=-1).transpose(-1, -2)
    weights: torch.Tensor = torch.softmax(scores / math.sqrt(NOPE + ROPE), dim=-1)
    return (weights @ value).view(count, 1, HEADS * VALUE)


def traffic_bytes(case: Case) -> int:
    """Bytes that cross the memory bus at least: weights and the cache's filled rows, read once."""
    weights = sum(math.prod(s) for name, _, s in inputs(case) if name.endswith("_weight"))
    return 2 * (weights + BATCH * (case.prefill + 1) * (KV_RANK + ROPE))


def operations(case: Case) -> int:
    """Floating-point operations of the absorbed form."""
    rows = case.prefill + 1
    latent = 2 * BATCH * HEADS * rows * (2 * KV_RANK + ROPE)
    return latent + 2 * BATCH * (DIM * (Q_RANK + KV_RANK + ROPE) + HEADS * VALUE * DIM)


BENCHMARKS = (Case(prefill=4096), Case(prefill=6144))
TESTS = tuple(Case(prefill=rows) for rows in (128, 512, 1024, 2048))
HIDDEN_SHAPES = (Case(prefill=777),)
