"""What the model is told about TriMul, and the records by GPU model."""

from eurekaflow.verifiers.problem import Record

FULL = """\
Write a fast GPU kernel in Triton for the outgoing triangle multiplicative update of AlphaFold.

`custom_kernel(data)` gets data = (x, mask, weights, config): x [B, N, N, C] float32, mask
[B, N, N] float32 of zeros and ones, config = {"dim": C, "hidden_dim": 128}, H = 128, weights a
dict of float32 tensors: "norm.weight", "norm.bias" [C]; "left_proj.weight", "right_proj.weight",
"left_gate.weight", "right_gate.weight", "out_gate.weight" [H, C]; "to_out_norm.weight",
"to_out_norm.bias" [H]; "to_out.weight" [C, H]. It returns y [B, N, N, C], float32, contiguous:

    u = layer_norm(x, norm.weight, norm.bias)           # over C, eps 1e-5
    L = (u @ left_proj.T)  * mask * sigmoid(u @ left_gate.T)
    R = (u @ right_proj.T) * mask * sigmoid(u @ right_gate.T)
    o[b, i, j, d] = sum over k of L[b, i, k, d] * R[b, j, k, d]
    o = layer_norm(o, to_out_norm.weight, to_out_norm.bias)   # over H, eps 1e-5
    y = (o * sigmoid(u @ out_gate.T)) @ to_out.T

Every element must be within 2e-2 + 2e-2 |ref| of a float32 reference. Timed are (N, B, C) =
(256, 2, 128), (768, 1, 128), (256, 2, 384), (512, 1, 128), (1024, 1, 128), (768, 1, 384),
(1024, 1, 384); the score is the geometric mean in microseconds, lower is better. Tests also use
N = 32 to 1024, C = 128 to 768, B up to 3, N that no tile divides, heavy-tailed x (Cauchy) and
random masks; other C are multiples of 64. Each call gets fresh inputs, weights and masks, the
cache is overwritten before it, and the device is synchronised after it. Inputs must not be
changed, work must not go to other streams or threads, nothing can be kept between calls.

The program must contain at least one function under @triton.jit; torch may be used beside it.
What is known: nearly all time goes into the five projections, the batched product over k and the
output projection, so use fp16 tensor cores with fp32 sums; fuse the first LayerNorm with the
projections, gates and mask in one kernel that writes L and R channel by channel ([B, H, N, N]),
use one batched matrix product, and fuse the second LayerNorm, the gate and the output projection.
The sum over k can leave fp16's range: scale L (the second LayerNorm cancels the scale).
"""

BRIEF = """\
custom_kernel(data) computes AlphaFold's triangle multiplicative update in Triton on a GPU.
Make it faster; the result must stay the same. Lower microseconds are better.
"""

OPENING = """\
```python
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
"""

_BOARD = "GPU MODE leaderboard of trimul, as quoted in arXiv 2601.16175, table 4"
_PAPER = "arXiv 2601.16175, table 4"


def _records(human: float, ours: float) -> tuple[Record, Record]:
    mode = "official: masks all ones, events on the call's stream"
    return (
        Record(holder="best human", score=human, kind="human", source=_BOARD, role="human",
               mode=mode),
        Record(holder="TTT-Discover", score=ours, kind="ai", source=_PAPER, role="TTT-Discover",
               mode=mode),
    )  # fmt: skip


RECORDS = {
    "A100": _records(4531.5, 2198.2),
    "H100": _records(1371.1, 1161.2),
    "B200": _records(1027.6, 910.8),
    "MI300X": _records(2515.8, 1555.7),
}


def _ours(holder: str, score: float, mode: str, source: str) -> Record:
    return Record(holder=holder, score=score, kind="ours", source=source, mode=mode)


_HARNESS = "this harness, torch 2.11, Triton 3.6, 2026-11-30; docs/kernels.md"
_EARLIER = "this harness, torch 2.11, Triton 3.6, 2026-11-22; docs/kernels.md"
OURS = {
    "H200": (
        _ours("trimul_kernel.py, Triton", 1011.0, "strict, ten trials: 996 to 1034", _HARNESS),
        _ours("trimul_kernel.py, Triton, an earlier form", 1114.0, "official", _EARLIER),
        _ours("torch.compile fp16, dynamic shapes", 4708.0, "strict", _HARNESS),
        _ours("torch.compile fp16, dynamic shapes", 4591.0, "official", _HARNESS),
        _ours("eager fp16", 5576.0, "strict", _HARNESS),
        _ours("eager fp16", 5483.0, "official", _HARNESS),
        _ours("eager fp32", 9579.0, "strict", _HARNESS),
        _ours("eager fp32", 9463.0, "official", _HARNESS),
    ),
}
