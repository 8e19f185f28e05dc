"""A Hugging Face folder as a model in memory, with our attention, and its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from eurekaflow.models import prefix_attention
from eurekaflow.models.errors import ModelDamaged, PrerequisiteMissing
from eurekaflow.models.fingerprint import bf16_is_fast
from eurekaflow.models.model_card import check_supported

# What the language model is called inside a model that also sees images: newer files, older ones.
TEXT_NAMES = {r"^model\.language_model\.": "model.", r"^language_model\.model\.": "model."}
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def device_named(name: str) -> torch.device:
    """A device by name; `auto` is the GPU where there is one. Raises PrerequisiteMissing."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise PrerequisiteMissing(
            f"device {name!r} was asked for, but PyTorch sees no CUDA device", "use --device cpu"
        )
    return torch.device(name)


def dtype_named(name: str, device: torch.device) -> torch.dtype:
    """A dtype by name; `auto` is bfloat16 where the processor is fast at it."""
    if name == "auto":
        fast = device.type == "cuda" or bf16_is_fast()
        return torch.bfloat16 if fast else torch.float32
    if name not in DTYPES:
        raise ValueError(f"dtype is {name!r}, but must be auto or one of {sorted(DTYPES)}")
    return DTYPES[name]


def load_model(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model and tokenizer. Raises PrerequisiteMissing, UsageError, ModelDamaged."""
    if not (folder / "config.json").is_file():
        raise PrerequisiteMissing(
            f"{folder} is not a Hugging Face model folder: config.json is missing",
            "give a model that is on this machine: --model PATH",
        )
    check_supported(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # What matters of its table of weights is raised below.
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    options = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    config = AutoConfig.from_pretrained(folder, **options)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        config=getattr(config, "text_config", config),
        key_mapping=TEXT_NAMES if hasattr(config, "text_config") else None,
        dtype=dtype,
        attn_implementation=prefix_attention.NAME,
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    model, found = loaded
    if missing := found["missing_keys"]:
        raise ModelDamaged(
            f"{folder} lacks {len(missing)} of its weights, such as {min(missing)}",
            "fetch the model again, or give another: --model PATH",
        )
    return model.to(device).eval(), tokenizer


def stop_ids_of(model: Any) -> list[int]:
    """The ids the model's generation configuration names; one or several."""
    found = getattr(model.generation_config, "eos_token_id", None)
    if found is None:
        return []
    return [int(i) for i in (found if isinstance(found, (list, tuple)) else [found])]
