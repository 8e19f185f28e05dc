"""The argument of a call, as the field's harness hands it over, from tensors and a recipe.

Standalone (torch and the standard library): the candidate's worker receives this file as text.
"""

from __future__ import annotations

import types
from typing import Any

import torch


class KVCache:
    """Latent rows as MLA decode hands them over: `data` [B, rows, width], `seq_len` of them."""

    def __init__(self, data: torch.Tensor, seq_len: int) -> None:
        self.data, self.seq_len = data, seq_len

    def get_data(self) -> torch.Tensor:
        return self.data

    def __call__(self, rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Append `rows` [B, new, width]; the rows filled so far and their number."""
        end = self.seq_len + rows.size(1)
        self.data[:, self.seq_len : end] = rows.to(self.data.dtype)
        self.seq_len = end
        return self.data[:, :end], end


def build(recipe: Any, tensors: list[torch.Tensor]) -> Any:
    """The argument of a call from its recipe: {"tensor": i}, {"tuple": […]}, {"dict": {…}}, …"""
    ((kind, body),) = recipe.items()
    if kind == "tensor":
        return tensors[body]
    if kind == "tuple":
        return tuple(build(part, tensors) for part in body)
    if kind == "value":
        return tuple(body) if isinstance(body, list) else body
    named = {name: build(part, tensors) for name, part in body.items()}
    made = {"dict": dict, "cache": KVCache}.get(kind, types.SimpleNamespace)
    return made(**named)
