"""Outputs against expected outputs, on the device that holds them."""

from __future__ import annotations

import torch

CHUNK = 1 << 27  # elements compared at a time


def mismatch(
    out: torch.Tensor, ref: torch.Tensor, *, rtol: float, atol: float
) -> tuple[int, float]:
    """(elements outside the tolerance, largest error in units of it); NaN and infinity agree
    only with themselves."""
    bad, worst = 0, 0.0
    parts = torch.split(out.view(-1), CHUNK), torch.split(ref.reshape(-1), CHUNK)
    for out_part, ref_part in zip(*parts, strict=True):
        o, r = out_part.float(), ref_part.float()
        unit = (o - r).abs_().div_(r.abs().mul_(rtol).add_(atol))
        alike = (o == r) | (o.isnan() & r.isnan())
        unit.masked_fill_(alike, 0.0)
        bad += int((~(unit <= 1.0)).sum())
        worst = max(worst, float(unit.max()))
    return bad, worst
