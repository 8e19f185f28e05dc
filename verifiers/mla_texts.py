"""What the model is told about MLA decode, and the records by GPU model."""

from eurekaflow.verifiers.problem import Record

FULL = """\
Write a fast GPU implementation of one decode step of multi-head latent attention (MLA) in
bfloat16, with Triton or PyTorch.

`custom_kernel(data)` gets data = (config, x, kv_cache). config has batch_size 128, dim 7168,
n_heads 128, q_lora_rank 1536, kv_lora_rank 512, qk_nope_head_dim 128, qk_rope_head_dim 64,
v_head_dim 128, seq_len 1, max_seq_len 8192, and the weights, each [out, in]:
Q_proj_down_weight, Q_proj_up_weight, KV_proj_down_weight, KV_proj_up_weight, wo_weight.
x is [128, 1, 7168]; kv_cache.data is [128, 8192, 576] with kv_cache.seq_len rows filled, and
kv_cache(rows) appends rows [128, 1, 576] and returns (filled rows, their number).

    q = x @ Q_proj_down.T @ Q_proj_up.T      -> 128 heads of (128 nope, 64 rope)
    latent, n = kv_cache(x @ KV_proj_down.T) -> [128, n, (512 latent, 64 rope)]
    k_nope, v = latent[..., :512] @ KV_proj_up.T -> per head (128, 128)
    RoPE in bfloat16, half-rotation layout, theta_j = 10000^(-j/32): on q's rope part at position
    n - 1, on the shared 64 rope channels of the cache at positions 0 .. n - 1
    out = softmax(q k^T / sqrt(192)) v @ wo.T

Return (out [128, 1, 7168], kv_cache.data), both bfloat16. Tolerance: 8e-3 + 2e-2 |ref|. The score
is the time in microseconds with 6144 rows in the cache, lower is better; 4096 is timed too, and
other lengths are tested. Inputs, weights and cache are fresh for each call.

What is known: absorb KV_proj_up into the query and the output and attend in the 512 latent
channels, so that keys and values are never expanded for all rows; then read the cache once, in a
fused attention split over its rows.
"""

_TABLE = "arXiv 2601.16175, table 5"


def _mi300x() -> tuple[Record, ...]:
    return (
        Record(holder="best human", score=1653.8, kind="human", source=_TABLE, role="human"),
        Record(holder="TTT-Discover", score=1669.1, kind="ai", source=_TABLE, role="TTT-Discover"),
    )


RECORDS = {"MI300X": _mi300x()}
