# mypy: ignore-errors
"""TriMul in Triton: fused kernels around a batched product, all in fp16 with fp32 sums.

1. `pack` and `normalise`: weights and LayerNorm(x) in fp16, so that `project` below loads its
   operands straight into the tensor cores' pipeline.
   `project`: a tile's five projections, gates and mask; the left and right factors are written
   channel by channel, so that the product reads them contiguously.
2. `multiply`: one matrix product per batch and channel (ours, or cuBLAS's).
3. `finish`: LayerNorm over the channels, gate and output projection; one read, one write.

The left factor is scaled by 1/16: the product of up to 1024 terms then stays in fp16's range, and
the second LayerNorm, its epsilon scaled too, cancels it. A program of its own: it runs as it is.
"""

import torch
import triton
import triton.language as tl

CONFIG = {
    "normalise_elements": 4096,  # of a tile in `normalise`
    "normalise_warps": 4,
    "rows": 128,  # of a tile in `project`
    "depth": 64,  # channels of one step there
    "split": 1,  # 3: a tile's three pairs of projections run as programs of their own
    "project_warps": 8,
    "project_stages": 3,
    "product": "cublas",  # or "triton", with the tile below
    "tile_m": 128,
    "tile_n": 128,
    "tile_k": 64,
    "product_warps": 8,
    "product_stages": 4,
    "finish_rows": 64,
    "finish_columns": 64,
    "finish_warps": 4,
    "finish_stages": 2,
}
HIDDEN, EPS, SCALE = 128, 1e-5, 0.0625
NAMES = ("left_proj", "left_gate", "right_proj", "right_gate", "out_gate")


@triton.jit
def pack(a, b, c, d, e, f, packed, out, LENGTH: tl.constexpr, BLOCK: tl.constexpr):
    """Six weights of one size to fp16: five behind one another, the last by itself."""
    k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    some = k < LENGTH
    tl.store(packed + k, tl.load(a + k, mask=some).to(tl.float16), mask=some)
    tl.store(packed + LENGTH + k, tl.load(b + k, mask=some).to(tl.float16), mask=some)
    tl.store(packed + 2 * LENGTH + k, tl.load(c + k, mask=some).to(tl.float16), mask=some)
    tl.store(packed + 3 * LENGTH + k, tl.load(d + k, mask=some).to(tl.float16), mask=some)
    tl.store(packed + 4 * LENGTH + k, tl.load(e + k, mask=some).to(tl.float16), mask=some)
    tl.store(out + k, tl.load(f + k, mask=some).to(tl.float16), mask=some)


@triton.jit
def normalise(
    x, weight, bias, u, M, EPS,
    C: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    k = tl.arange(0, WIDE)
    some = (row[:, None] < M) & (k[None, :] < C)
    place = row[:, None] * C + k[None, :]
    values = tl.load(x + place, mask=some, other=0.0)
    off = tl.where(some, values - (tl.sum(values, 1) / C)[:, None], 0.0)
    off *= tl.rsqrt(tl.sum(off * off, 1) / C + EPS)[:, None]
    scale = tl.load(weight + k, mask=k < C, other=0.0)
    shift = tl.load(bias + k, mask=k < C, other=0.0)
    tl.store(u + place, (off * scale[None, :] + shift[None, :]).to(tl.float16), mask=some)


@triton.jit
def product(
    u, weights, inside,
    PART: tl.constexpr, C: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    h = tl.arange(0, H)
    total = tl.zeros([ROWS, H], dtype=tl.float32)
    for start in range(0, C, DEPTH):
        k = start + tl.arange(0, DEPTH)
        a = tl.load(u + k[None, :], mask=inside[:, None] & (k[None, :] < C), other=0.0)
        place = PART * H * C + h[None, :] * C + k[:, None]
        total = tl.dot(a, tl.load(weights + place, mask=k[:, None] < C, other=0.0), total)
    return total


@triton.jit
def gated(
    u, weights, inside, factor,
    PART: tl.constexpr, C: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    h = tl.arange(0, H)
    value = tl.zeros([ROWS, H], dtype=tl.float32)
    gate = tl.zeros([ROWS, H], dtype=tl.float32)
    for start in range(0, C, DEPTH):
        k = start + tl.arange(0, DEPTH)
        a = tl.load(u + k[None, :], mask=inside[:, None] & (k[None, :] < C), other=0.0)
        place = PART * H * C + h[None, :] * C + k[:, None]
        some = k[:, None] < C
        value = tl.dot(a, tl.load(weights + place, mask=some, other=0.0), value)
        gate = tl.dot(a, tl.load(weights + H * C + place, mask=some, other=0.0), gate)
    return value * tl.sigmoid(gate) * factor[:, None]


@triton.jit
def project(
    u, mask, weights, left, right, gates, NN, SCALE,
    C: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr,
    SPLIT: tl.constexpr,
):  # fmt: skip
    part = tl.program_id(0) % SPLIT
    position = (tl.program_id(0) // SPLIT) * ROWS + tl.arange(0, ROWS)
    batch = tl.program_id(1).to(tl.int64)
    inside = position < NN
    row = batch * NN + position
    u += row[:, None] * C
    h = tl.arange(0, H)
    seen = tl.load(mask + row, mask=inside, other=0.0)
    place = batch * H * NN + h[None, :] * NN.to(tl.int64) + position[:, None]
    if SPLIT == 1 or part == 0:
        out = gated(u, weights, inside, seen * SCALE, 0, C, H, ROWS, DEPTH)
        tl.store(left + place, out.to(tl.float16), mask=inside[:, None])
    if SPLIT == 1 or part == 1:
        out = gated(u, weights, inside, seen, 2, C, H, ROWS, DEPTH)
        tl.store(right + place, out.to(tl.float16), mask=inside[:, None])
    if SPLIT == 1 or part == 2:
        out = tl.sigmoid(product(u, weights, inside, 4, C, H, ROWS, DEPTH))
        tl.store(gates + row[:, None] * H + h[None, :], out.to(tl.float16), mask=inside[:, None])


@triton.jit
def multiply(
    left, right, out, N: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    start = tl.program_id(2).to(tl.int64) * N * N
    i = tl.program_id(0) * TILE_M + tl.arange(0, TILE_M)
    j = tl.program_id(1) * TILE_N + tl.arange(0, TILE_N)
    total = tl.zeros([TILE_M, TILE_N], dtype=tl.float32)
    for base in range(0, N, TILE_K):
        k = base + tl.arange(0, TILE_K)
        a = tl.load(left + start + i[:, None] * N + k[None, :],
                    mask=(i[:, None] < N) & (k[None, :] < N), other=0.0)  # fmt: skip
        b = tl.load(right + start + j[None, :] * N + k[:, None],
                    mask=(j[None, :] < N) & (k[:, None] < N), other=0.0)  # fmt: skip
        total = tl.dot(a, b, total)
    some = (i[:, None] < N) & (j[None, :] < N)
    tl.store(out + start + i[:, None] * N + j[None, :], total.to(tl.float16), mask=some)


@triton.jit
def finish(
    products, gates, norm_w, norm_b, weight, y, NN, EPS,
    C: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    position = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    batch = tl.program_id(1).to(tl.int64)
    inside = position < NN
    row = batch * NN + position
    h = tl.arange(0, H)
    place = batch * H * NN + h[None, :] * NN.to(tl.int64) + position[:, None]
    o = tl.load(products + place, mask=inside[:, None], other=0.0).to(tl.float32)
    o -= (tl.sum(o, 1) / H)[:, None]
    o *= tl.rsqrt(tl.sum(o * o, 1) / H + EPS)[:, None]
    o = o * tl.load(norm_w + h)[None, :] + tl.load(norm_b + h)[None, :]
    gate = tl.load(gates + row[:, None] * H + h[None, :], mask=inside[:, None], other=0.0)
    a = (o * gate.to(tl.float32)).to(tl.float16)
    for start in range(0, C, COLUMNS):
        c = start + tl.arange(0, COLUMNS)
        w = tl.load(weight + c[None, :] * H + h[:, None], mask=c[None, :] < C, other=0.0)
        out = tl.dot(a, w)
        tl.store(y + row[:, None] * C + c[None, :], out, mask=inside[:, None] & (c[None, :] < C))


LAUNCHED = {}


def launch(kernel, grid, *arguments, **options):
    """Launch a kernel; from the second time with like arguments on without asking Triton which of
    its compilations is meant. The answer takes the host longer than a small case's kernels run."""
    like = tuple(
        (a.dtype, a.data_ptr() % 16) if isinstance(a, torch.Tensor) else a for a in arguments
    )
    key = (kernel.__name__, like, tuple(options.values()))
    if compiled := LAUNCHED.get(key):
        compiled[(*grid, 1, 1)[:3]](*arguments)
    else:
        LAUNCHED[key] = kernel[grid](*arguments, **options)


def custom_kernel(data):
    x, mask, weights, _ = data
    b, n, _, c = x.shape
    half = {"device": x.device, "dtype": torch.float16}
    left, right, products = (torch.empty(b * HIDDEN, n, n, **half) for _ in range(3))
    gates, u = torch.empty(b * n * n, HIDDEN, **half), torch.empty(x.shape, **half)
    packed, out_weight = torch.empty(5, HIDDEN, c, **half), torch.empty(c, HIDDEN, **half)
    y = torch.empty_like(x)
    g = CONFIG
    launch(
        pack, (triton.cdiv(HIDDEN * c, 512),),
        *(weights[f"{name}.weight"] for name in NAMES), weights["to_out.weight"], packed,
        out_weight, HIDDEN * c, 512, num_warps=4,
    )  # fmt: skip
    wide = triton.next_power_of_2(c)
    rows = max(1, g["normalise_elements"] // wide)
    launch(
        normalise, (triton.cdiv(b * n * n, rows),),
        x, weights["norm.weight"], weights["norm.bias"], u, b * n * n, EPS, c, wide, rows,
        num_warps=g["normalise_warps"],
    )  # fmt: skip
    launch(
        project, (g["split"] * triton.cdiv(n * n, g["rows"]), b),
        u, mask, packed, left, right, gates, n * n, SCALE, c, HIDDEN, g["rows"], g["depth"],
        g["split"], num_warps=g["project_warps"], num_stages=g["project_stages"],
    )  # fmt: skip
    if g["product"] == "cublas":
        torch.bmm(left, right.transpose(1, 2), out=products)
    else:
        grid = (triton.cdiv(n, g["tile_m"]), triton.cdiv(n, g["tile_n"]), b * HIDDEN)
        launch(
            multiply, grid,
            left, right, products, n, g["tile_m"], g["tile_n"], g["tile_k"],
            num_warps=g["product_warps"], num_stages=g["product_stages"],
        )  # fmt: skip
    launch(
        finish, (triton.cdiv(n * n, g["finish_rows"]), b),
        products, gates, weights["to_out_norm.weight"], weights["to_out_norm.bias"],
        out_weight, y, n * n, EPS * SCALE * SCALE,
        c, HIDDEN, g["finish_rows"], g["finish_columns"],
        num_warps=g["finish_warps"], num_stages=g["finish_stages"],
    )  # fmt: skip
    return y
