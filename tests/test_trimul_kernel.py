"""Our TriMul kernel and the plain forms beside the reference, on tiny shapes, without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from eurekaflow.verifiers import mla_kernel, mla_task, trimul_task
from eurekaflow.verifiers.gpu_arguments import build
from eurekaflow.verifiers.gpu_reference import mismatch

INTERPRETED = """
import sys, torch
from eurekaflow.verifiers import trimul_kernel, trimul_plain, trimul_task
from eurekaflow.verifiers.gpu_reference import mismatch
given = eval(sys.argv[1])
kernel = trimul_plain if given.pop("plain", False) else trimul_kernel
trimul_kernel.CONFIG.update(given.pop("config"))
case = trimul_task.Case(**given)
drawn = {name: torch.empty(shape) for name, _, shape in trimul_task.inputs(case)}
trimul_task.fill(case, drawn, torch.Generator().manual_seed(1))
weights = {k: v for k, v in drawn.items() if k not in ("x", "mask")}
[wanted] = trimul_task.expected(case, drawn)
out = kernel.custom_kernel((drawn["x"], drawn["mask"], weights, {}))
print(*mismatch(out, wanted, rtol=trimul_task.RTOL, atol=trimul_task.ATOL))
"""
TRITON = {"split": 3, "product": "triton", "tile_m": 32, "tile_n": 32, "tile_k": 32, "depth": 128}


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize(
    "case",
    [
        {"n": 5, "b": 2, "c": 192, "mask": True, "config": TRITON},
        {"n": 8, "b": 1, "c": 128, "mask": False, "cauchy": True, "config": {"split": 1}},
        {"n": 5, "b": 2, "c": 192, "mask": True, "config": {}, "plain": True},
    ],
    ids=["masked, no tile divides", "heavy-tailed", "the plain start"],
)
def test_the_triton_kernel_agrees_with_the_reference_under_the_interpreter(
    case: dict[str, object],
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED, repr(case)],
        env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    bad, worst = map(float, done.stdout.split())
    assert bad == 0
    assert 0 < worst < 0.5


def test_the_reference_is_the_formula_written_out() -> None:
    case = trimul_task.Case(n=3, b=2, c=8, mask=True)
    t = {name: torch.empty(shape) for name, _, shape in trimul_task.inputs(case)}
    trimul_task.fill(case, t, torch.Generator().manual_seed(3))
    t = {name: tensor.double() for name, tensor in t.items()}
    centred = t["x"] - t["x"].mean(-1, keepdim=True)
    u = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    u = u * t["norm.weight"] + t["norm.bias"]

    def gated(side: str) -> torch.Tensor:
        opened = 1 / (1 + torch.exp(-u @ t[f"{side}_gate.weight"].T))
        return (u @ t[f"{side}_proj.weight"].T) * t["mask"][..., None] * opened

    left, right = gated("left"), gated("right")
    o = torch.zeros(2, 3, 3, 128, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            for k in range(3):
                o[:, i, j] += left[:, i, k] * right[:, j, k]
    centred = o - o.mean(-1, keepdim=True)
    o = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    o = o * t["to_out_norm.weight"] + t["to_out_norm.bias"]
    y = (o / (1 + torch.exp(-u @ t["out_gate.weight"].T))) @ t["to_out.weight"].T
    assert torch.allclose(trimul_task.expected(case, t)[0], y, rtol=1e-10, atol=1e-10)


def test_a_declared_mask_is_random_and_another_all_ones() -> None:
    for mask in (True, False):
        case = trimul_task.Case(n=16, b=1, c=8, mask=mask)
        t = {name: torch.empty(shape) for name, _, shape in trimul_task.inputs(case)}
        trimul_task.fill(case, t, torch.Generator().manual_seed(3))
        assert set(t["mask"].unique().tolist()) == ({0.0, 1.0} if mask else {1.0})


def test_the_absorbed_form_of_mla_decode_agrees_with_the_expanded_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = {"BATCH": 3, "DIM": 64, "Q_RANK": 32, "HEADS": 4, "ROWS": 24}
    for name, value in small.items():
        monkeypatch.setattr(mla_task, name, value)
    case = mla_task.Case(prefill=17)
    t = {n: torch.empty(shape, dtype=torch.bfloat16) for n, _, shape in mla_task.inputs(case)}
    mla_task.fill(case, t, torch.Generator().manual_seed(5))
    wanted = mla_task.expected(case, t)
    data = build(mla_task.recipe(case), list(t.values()))
    found = mla_kernel.custom_kernel(data)
    for out, ref in zip(found, wanted, strict=True):
        assert out.shape == ref.shape
        assert mismatch(out, ref, rtol=2e-2, atol=2e-2)[0] == 0
    assert torch.equal(found[1], wanted[1])
