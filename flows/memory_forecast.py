"""Whether a run's model fits the memory of this machine, said before anything is loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eurekaflow.flows import hardware
from eurekaflow.flows.findings import Check
from eurekaflow.flows.rendering import size

if TYPE_CHECKING:
    from eurekaflow.flows.configure import Surroundings
    from eurekaflow.models.settings import RunConfig

NAME = "model memory"
BRIEF_PROMPT, LONG_PROMPT = 600, 3000  # tokens; the longer is the paper's mean
MIB = 2**20


def of_run(config: RunConfig, here: Surroundings) -> Check:
    """The forecast for a run's model on its device, with what to change where it does not fit."""
    from eurekaflow.models.forecast import advice, forecast
    from eurekaflow.models.model_card import ModelUnsupported

    try:
        model = configuration(config.model, here.home / "models")
    except ModelUnsupported as error:
        return Check(NAME, "warn", error.message, error.fix)
    if model is None:
        return Check(NAME, "pass", f"known once {config.model!r} is on this machine")
    free = gpu_free() if hardware.gpu_present(os.environ) else None
    available = hardware.available_memory() if free is None else free
    if available is None:
        return Check(NAME, "warn", "cannot tell how much memory is available")
    found = forecast(
        model,
        available=available,
        rows=config.wave if free is None else config.groups * config.group_size,
        tokens=config.max_new_tokens,
        prompt=BRIEF_PROMPT if config.brief else LONG_PROMPT,
        lora_rank=config.lora_rank,
        checkpointing=config.checkpointing,
        lora_experts=config.lora_experts,
        weight_bytes=2 if free is not None else cpu_weight_bytes(),
    )
    where = "memory" if free is None else "GPU memory"
    message = (
        f"{config.model} needs about {size(found.needed)} (weights {size(found.weights)}, adapter "
        f"{size(found.adapter)}, update {size(found.update)}; sampling all rows "
        f"{size(found.sampling)}) of {size(available)} {where} available"
    )
    fix = advice(found, checkpointing=config.checkpointing)
    return Check(NAME, "warn" if fix else "pass", message, fix)


def configuration(model: str, cache: Path) -> dict[str, Any] | None:
    """The contents of the model's config.json, where its folder is here already.

    Raises ModelUnsupported.
    """
    from eurekaflow.models.errors import EurekaError
    from eurekaflow.models.model_card import ModelUnsupported
    from eurekaflow.models.weights import resolve_model

    if Path(model).expanduser().is_file():  # a GGUF file, which would be converted
        return None
    try:
        folder = resolve_model(model, cache, offline=True)
        found: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ModelUnsupported:
        raise
    except (EurekaError, OSError, ValueError):
        return None
    return found


def cpu_weight_bytes() -> int:
    """Of a weight on a CPU: bfloat16 or float32, and a copy laid out for its matrix products."""
    return 2 * (2 if {"avx512_bf16", "amx_bf16"} & hardware.cpu_features() else 4)


def gpu_free() -> int | None:
    """Bytes free on the first NVIDIA GPU; None where nvidia-smi does not say."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return int(done.stdout.split()[0]) * MIB
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None
