# mypy: ignore-errors
"""MLA decode in the absorbed form, plain PyTorch: attention stays in the 512 latent channels.

The up-projection of keys goes into the query and that of values into the output, so neither is
expanded for the cache's rows: 0.2 TFLOP instead of 27 at 6144 rows. A program of its own.
"""

import math

import torch


def rotate(x, angle):
    turned = torch.cat((-x[..., 32:], x[..., :32]), dim=-1)
    return x * angle.cos() + turned * angle.sin()


def angles(positions, dtype):
    steps = torch.arange(32, device=positions.device, dtype=dtype) / 32
    angle = positions.to(dtype)[:, None] * (10000.0 ** (-steps))[None, :]
    return torch.cat((angle, angle), dim=-1)


def custom_kernel(data):
    config, x, cache = data
    b, heads, rank = config.batch_size, config.n_heads, config.kv_lora_rank
    nope, rope, width = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
    q = (x @ config.Q_proj_down_weight.T) @ config.Q_proj_up_weight.T
    latent, end = cache(x @ config.KV_proj_down_weight.T)
    q_nope, q_rope = q.view(b, heads, nope + rope).split((nope, rope), dim=-1)
    angle = angles(torch.arange(end, device=x.device), x.dtype)
    up = config.KV_proj_up_weight.view(heads, nope + width, rank)
    q_latent = torch.bmm(q_nope.transpose(0, 1), up[:, :nope]).transpose(0, 1)  # [b, heads, rank]
    keys, shared = latent[..., :rank], rotate(latent[..., rank:], angle)
    scores = torch.bmm(q_latent, keys.transpose(1, 2))
    scores.baddbmm_(rotate(q_rope, angle[-1]), shared.transpose(1, 2))
    weights = torch.softmax(scores.mul_(1 / math.sqrt(nope + rope)), dim=-1)
    mixed = torch.bmm(weights, keys)  # [b, heads, rank]
    out = torch.bmm(mixed.transpose(0, 1), up[:, nope:].transpose(1, 2)).transpose(0, 1)
    return out.reshape(b, 1, heads * width) @ config.wo_weight.T, cache.data
