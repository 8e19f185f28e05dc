"""What bit equality depends on: the model's bytes, numeric settings, libraries and processor."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")
FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
_INFO = Path("/proc/cpuinfo")


def of_policy(
    folder: Path, *, device: torch.device, dtype: torch.dtype, threads: int, kernel: str
) -> dict[str, str]:
    """The fingerprint of a local policy; hashing the weights takes about a second per gigabyte."""
    return {
        "model": model_hash(folder),
        "device": device.type if device.type == "cpu" else torch.cuda.get_device_name(device),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": str(threads),
        "kernel": kernel,
        "processor": processor(),
        **{library: version(library) for library in LIBRARIES},
    }


def model_hash(folder: Path) -> str:
    """sha256 over names and contents of the folder's configuration, weights and tokenizer."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".json", ".txt", ".jinja"):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{path.name} {content}\n".encode())
    return total.hexdigest()


def processor() -> str:
    """Architecture, vendor, family, model and the features numeric libraries choose kernels by."""
    fields = cpu_fields()
    names = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
    which = [fields[name] for name in names if name in fields]
    features = [name for name in FEATURES if name in cpu_features()]
    return " ".join([platform.machine(), *which, *features])


def bf16_is_fast() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware."""
    return bool({"avx512_bf16", "amx_bf16"} & cpu_features())


def cpu_features() -> frozenset[str]:
    """Feature flags the kernel reports; empty where it does not."""
    fields = cpu_fields()
    return frozenset((fields.get("flags") or fields.get("Features") or "").split())


def cpu_fields() -> dict[str, str]:
    """The first processor of /proc/cpuinfo."""
    if not os.access(_INFO, os.R_OK):
        return {}
    first = _INFO.read_text(encoding="utf-8").split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}
