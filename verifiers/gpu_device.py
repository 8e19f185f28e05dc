"""What device this is: names, versions, bandwidth, and its driver's library. Needs torch."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch


def libraries() -> str:
    """The folder of the driver's library, which a confined process must be told."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/libcuda.so" in line:
            return os.path.dirname(line.split(maxsplit=5)[5])
    return ""


def device() -> dict[str, Any]:
    """Names and versions that belong to a measurement."""
    try:
        from importlib.metadata import version

        triton = version("triton")
    except ImportError:
        triton = ""
    driver = Path("/proc/driver/nvidia/version")
    words = driver.read_text().split() if driver.exists() else []
    return {
        "gpu": torch.cuda.get_device_name(0),
        "driver": next((word for word in words if word[:1].isdigit() and "." in word), ""),
        "torch": torch.__version__,
        "triton": triton,
        "cuda": torch.version.cuda or "",
        "processors": torch.cuda.get_device_properties(0).multi_processor_count,
    }


def event() -> Any:
    """A CUDA event that knows when it was."""
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def bandwidth() -> float:
    """Bytes per second of a device-to-device copy, read and written."""
    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    best = math.inf
    for _ in range(5):
        start, end = event(), event()
        start.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        best = min(best, start.elapsed_time(end))
    return 2 * 4 * source.numel() / (1e-3 * best)
