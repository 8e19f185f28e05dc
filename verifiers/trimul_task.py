"""TriMul as the reference worker computes it: cases, inputs, expected output, floors.

    u = LayerNorm_C(x; w, b)
    L = (u W_lp') mask sigmoid(u W_lg'),  R = (u W_rp') mask sigmoid(u W_rg')
    g = sigmoid(u W_og')
    o[b,i,j,d] = sum_k L[b,i,k,d] R[b,j,k,d]
    y = (LayerNorm_H(o; w', b') g) W_out'

The outgoing triangle multiplicative update of AlphaFold 2 (Jumper et al. 2021, algorithm 11); the
cases are those of GPU MODE's task `trimul`. Everything in float32 with TF32 off. Runs in the
trusted worker only: a candidate never sees what it computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

HIDDEN, EPS = 128, 1e-5
RTOL = ATOL = 2e-2
WEIGHTS = ("left_proj", "right_proj", "left_gate", "right_gate", "out_gate")
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One shape and distribution; `mask` declares a random mask."""

    n: int
    b: int
    c: int
    mask: bool
    cauchy: bool = False


def inputs(case: Case) -> list[tuple[str, str, tuple[int, ...]]]:
    """(name, dtype, shape) of every tensor a call is given."""
    c, h = case.c, HIDDEN
    sizes = {
        "x": (case.b, case.n, case.n, c),
        "mask": (case.b, case.n, case.n),
        "norm.weight": (c,),
        "norm.bias": (c,),
        **{f"{name}.weight": (h, c) for name in WEIGHTS},
        "to_out_norm.weight": (h,),
        "to_out_norm.bias": (h,),
        "to_out.weight": (c, h),
    }
    return [(name, "float32", shape) for name, shape in sizes.items()]


def outputs(case: Case) -> list[tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of what a call returns."""
    return [("float32", (case.b, case.n, case.n, case.c))]


MAY_ALIAS = [False]
CHANGED_BY_A_CALL: tuple[str, ...] = ()


def recipe(case: Case) -> dict[str, Any]:
    """The argument of a call: (x, mask, weights, config)."""
    names = [name for name, _, _ in inputs(case)]
    weights = {name: {"tensor": i} for i, name in enumerate(names) if i > 1}
    config = {"dim": {"value": case.c}, "hidden_dim": {"value": HIDDEN}}
    return {"tuple": [{"tensor": 0}, {"tensor": 1}, {"dict": weights}, {"dict": config}]}


def fill(case: Case, tensors: Tensors, generator: torch.Generator) -> None:
    """Draw inputs and weights in place."""
    x = tensors["x"]
    if case.cauchy:
        x.uniform_(generator=generator).sub_(0.5).mul_(math.pi).tan_().mul_(2.0)
    else:
        x.normal_(generator=generator)
    if case.mask:
        tensors["mask"].bernoulli_(0.5, generator=generator)
    else:
        tensors["mask"].fill_(1.0)
    for name, tensor in tensors.items():
        if name not in ("x", "mask"):
            tensor.normal_(generator=generator)
    for name in WEIGHTS:
        tensors[f"{name}.weight"].div_(math.sqrt(HIDDEN))
    tensors["to_out.weight"].div_(math.sqrt(case.c))


def expected(case: Case, tensors: Tensors) -> list[torch.Tensor]:
    """What a call must return."""
    t, mask = tensors, tensors["mask"].unsqueeze(-1)
    u = torch.nn.functional.layer_norm(
        t["x"], (case.c,), t["norm.weight"], t["norm.bias"], eps=EPS
    )
    left, right = (
        (u @ t[f"{side}_proj.weight"].T)
        .mul_(mask)
        .mul_(torch.sigmoid_(u @ t[f"{side}_gate.weight"].T))
        for side in ("left", "right")
    )
    gate = torch.sigmoid_(u @ t["out_gate.weight"].T)
    del u
    out = torch.einsum("bikd,bjkd->bijd", left, right)
    del left, right
    out = torch.nn.functional.layer_norm(
        out, (HIDDEN,), t["to_out_norm.weight"], t["to_out_norm.bias"], eps=EPS
    )
    return [out.mul_(gate) @ t["to_out.weight"].T]


def traffic_bytes(case: Case) -> int:
    """Bytes that cross the memory bus at least: inputs once, the output once."""
    ins = sum(math.prod(shape) for _, _, shape in inputs(case))
    return 4 * (ins + sum(math.prod(shape) for _, shape in outputs(case)))


def operations(case: Case) -> int:
    """Floating-point operations of the matrix products."""
    rows = case.b * case.n * case.n
    return 2 * rows * HIDDEN * (6 * case.c + case.n)


BENCHMARKS = (
    Case(n=256, b=2, c=128, mask=False),
    Case(n=768, b=1, c=128, mask=False, cauchy=True),
    Case(n=256, b=2, c=384, mask=True),
    Case(n=512, b=1, c=128, mask=False),
    Case(n=1024, b=1, c=128, mask=False, cauchy=True),
    Case(n=768, b=1, c=384, mask=True),
    Case(n=1024, b=1, c=384, mask=False),
)
TESTS = (
    Case(n=32, b=1, c=128, mask=True),
    Case(n=32, b=1, c=128, mask=False),
    Case(n=64, b=2, c=256, mask=True),
    Case(n=64, b=2, c=256, mask=False),
    Case(n=128, b=1, c=768, mask=False),
    Case(n=256, b=1, c=128, mask=True),
    Case(n=256, b=1, c=128, mask=False),
    Case(n=768, b=2, c=128, mask=False),
    Case(n=1024, b=1, c=384, mask=True),
    Case(n=1024, b=1, c=768, mask=False),
    Case(n=1024, b=1, c=768, mask=True),
    Case(n=32, b=1, c=128, mask=False, cauchy=True),
    Case(n=64, b=2, c=256, mask=False, cauchy=True),
    Case(n=128, b=1, c=768, mask=False, cauchy=True),
    Case(n=256, b=1, c=128, mask=False, cauchy=True),
    Case(n=768, b=2, c=128, mask=False, cauchy=True),
    Case(n=1024, b=1, c=384, mask=True, cauchy=True),
    Case(n=1024, b=1, c=768, mask=True, cauchy=True),
)
HIDDEN_SHAPES = (
    Case(n=100, b=1, c=128, mask=True),
    Case(n=72, b=3, c=192, mask=True),
    Case(n=136, b=3, c=128, mask=False, cauchy=True),
)
