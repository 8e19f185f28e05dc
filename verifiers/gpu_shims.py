"""Stand-ins for the modules that public GPU MODE submissions import beside their own code.

`from task import input_t, output_t`, `from utils import …`, `from reference import …`: names for
annotations, decorators and a submission's own checks. None of them computes an expected output;
what would is there by name only and raises. Standalone: the candidate's worker receives this file
as text, before any program.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator
from typing import Any

CHECKS = ("match_reference", "verbose_allclose", "verbose_allequal")
EXPECTED = ("ref_kernel", "generate_input", "check_implementation")


class NotHere(RuntimeError):
    """A part of the published harness that is not given to submissions here."""


def provide(cache_type: type) -> None:
    """Make the modules importable; `cache_type` is the class of MLA decode's cache."""
    types_of_data = {"input_t": Any, "output_t": Any, "TestSpec": dict}
    _module("task", **types_of_data, KVCache=cache_type, Config=types.SimpleNamespace)
    _module(
        "utils",
        set_seed=_set_seed,
        get_device=_get_device,
        DeterministicContext=_as_it_is,
        DisableCuDNNTF32=_as_it_is,
        clear_l2_cache=_nothing,
        make_match_reference=lambda *_, **__: _absent("check_implementation"),
        **{name: _absent(name) for name in CHECKS},
    )
    _module(
        "reference",
        **types_of_data,
        KVCache=cache_type,
        Config=types.SimpleNamespace,
        **{name: _absent(name) for name in EXPECTED},
    )


def _module(name: str, **contents: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(contents)
    sys.modules[name] = module


def _absent(name: str) -> Any:
    def absent(*_: Any, **__: Any) -> Any:
        raise NotHere(f"{name} belongs to the harness and is not given to programs")

    absent.__name__ = name
    return absent


def _set_seed(seed: int = 42) -> None:
    import torch

    torch.manual_seed(seed)


def _get_device(use_cuda: bool = True) -> Any:
    import torch

    return torch.device("cuda" if use_cuda and torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def _as_it_is(*_: Any, **__: Any) -> Iterator[None]:
    """Settings stay as they are: a submission's own are none of the measurement's."""
    yield


def _nothing(*_: Any, **__: Any) -> None:
    """The cache is overwritten elsewhere."""
