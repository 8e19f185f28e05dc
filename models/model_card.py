"""Says what a model folder holds, and refuses folders that cannot be loaded safely."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from eurekaflow.models.errors import ModelDamaged, UsageError
from eurekaflow.models.folders import sha256_of

DONE = "eurekaflow-model.json"  # marker of a converted folder: name, licence, source
_DIGESTS = "eurekaflow-sha256.json"  # remembers the weights' hash for unchanged files
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors library itself
TO_BFLOAT16 = (
    'convert it once: python -c "from transformers import AutoModelForCausalLM as M, '
    "AutoTokenizer as T, Mxfp4Config as C; "
    "M.from_pretrained('SOURCE', quantization_config=C(dequantize=True), dtype='bfloat16')"
    ".save_pretrained('FOLDER'); T.from_pretrained('SOURCE').save_pretrained('FOLDER')\", "
    "then --model FOLDER"
)
TEXT_PARTS = {"gemma3"}  # kinds that also see images, and whose text part is a model by itself
# Settings that scale what the output head gives, and what leaves it unchanged.
CHANGED_LOGITS = {
    "logit_scale": 1,
    "logits_scaling": 1,
}


class ModelUnsupported(UsageError):
    """A model of a kind that cannot be sampled or trained here."""


@dataclass(frozen=True)
class ModelCard:
    """What a run stores about the weights it began with."""

    name: str
    parameters: int
    dtype: str  # of most parameters
    vocabulary: int  # rows of the embedding, tokens or padding
    context: int  # tokens
    sha256: str  # of the weight files in name order: `cat *.safetensors | sha256sum`
    licence: str
    revision: str | None = None  # commit of the hub's repository, where it came from there


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no complete Hugging Face model with safetensors weights.

    Raises:
        UsageError: something that belongs to a model is absent, or weights are pickled only.
        ModelDamaged: config.json is no JSON, or a weight file is shorter than it says.
    """
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise UsageError(
            f"{folder} {'holds only an adapter' if adapter else 'has no config.json'}",
            "give the folder of a whole model: config.json, tokenizer.json, model.safetensors",
        )
    check_supported(_json_of(folder / "config.json"))
    for file in weight_files(folder):
        _tensors(file)
    if not _has_tokenizer(folder):
        raise UsageError(
            f"{folder} has no tokenizer (tokenizer.json, or vocab.json with merges.txt)",
            "copy the tokenizer's files there: tokenizer.save_pretrained(FOLDER)",
        )


def check_supported(config: dict[str, Any]) -> None:
    """Refuse kinds of models that cannot be trained or sampled here. Raises ModelUnsupported."""
    kind = config.get("model_type", "this model")
    if "text_config" in config and kind not in TEXT_PARTS:
        raise ModelUnsupported(
            f"{kind} also sees images, and its text part cannot be taken out here",
            "give a text model, or one of Gemma 3, such as google/gemma-3-4b-it: --model PATH",
        )
    quantised = (config.get("quantization_config") or {}).get("quant_method")
    if quantised == "mxfp4":
        raise ModelUnsupported(
            f"{kind} has its experts in MXFP4, which cannot be trained", TO_BFLOAT16
        )
    if quantised:
        raise ModelUnsupported(
            f"{kind} is quantised ({quantised}), which cannot be trained",
            "give the model's bfloat16 weights: --model PATH",
        )
    config = config.get("text_config", config)
    for name, none in CHANGED_LOGITS.items():
        if config.get(name) not in (None, none):
            raise ModelUnsupported(
                f"{name} is {config[name]} in {kind}'s configuration: models that scale their "
                "logits, like Granite, are not supported",
                "give another model, such as Gemma, Qwen3 or Llama: --model PATH",
            )


def _has_tokenizer(folder: Path) -> bool:
    forms = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",))
    return any(all((folder / name).is_file() for name in form) for form in forms)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the model, in name order."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        names = sorted(set(_json_of(index).get("weight_map", {}).values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing or not names:
            raise ModelDamaged(
                f"{folder} lacks {len(missing)} of {len(names)} weight files: {missing[:3]}",
                "fetch the model again",
            )
        return [folder / name for name in names]
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise UsageError(
            f"{folder} has only pickled weights ({pickles[0]}); loading a pickle runs its code",
            "convert them once where you trust them: "
            "model.save_pretrained(FOLDER, safe_serialization=True)",
        )
    raise UsageError(f"{folder} has no model.safetensors", "give the folder of a whole model")


def _json_of(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelDamaged(f"{path} is no JSON: {error}", "fetch the model again") from error
    if not isinstance(content, dict):
        raise ModelDamaged(f"{path} holds no JSON object", "fetch the model again")
    return content


class _Tensor(NamedTuple):
    dtype: str
    values: int


def _tensors(path: Path) -> list[_Tensor]:
    """What a safetensors header lists; the file must be exactly as long as the header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        raw = file.read(length) if length < min(size, _MAX_HEADER) else b""
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        promised = 8 + length + max((t["data_offsets"][1] for t in header.values()), default=0)
        tensors = [_Tensor(str(t["dtype"]), prod(t["shape"])) for t in header.values()]
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelDamaged(f"{path} is no safetensors file", "fetch the model again") from error
    if promised != size:
        raise ModelDamaged(
            f"{path} has {size} bytes instead of {promised}", "fetch the model again"
        )
    return tensors


def describe(folder: Path) -> ModelCard:
    """Read a model's card from its files; weights are hashed once and the hash kept beside them.

    Raises:
        UsageError, ModelDamaged: as `check_folder`.
    """
    check_folder(folder)
    config = _json_of(folder / "config.json")
    config = config.get("text_config", config)
    files = weight_files(folder)
    tensors = [tensor for file in files for tensor in _tensors(file)]
    marker = _json_of(folder / DONE) if (folder / DONE).is_file() else {}
    hub_name, revision = _hub_origin(folder)
    return ModelCard(
        name=marker.get("name") or hub_name or folder.resolve().name,
        parameters=sum(tensor.values for tensor in tensors),
        dtype=_main_dtype(tensors),
        vocabulary=int(config.get("vocab_size", 0)),
        context=int(config.get("max_position_embeddings", 0)),
        sha256=_digest(folder, files),
        licence=marker.get("licence") or _readme_licence(folder),
        revision=revision,
    )


def _main_dtype(tensors: list[_Tensor]) -> str:
    totals: Counter[str] = Counter()
    for tensor in tensors:
        totals[tensor.dtype] += tensor.values
    code = max(totals, key=lambda key: totals[key], default="")
    return _DTYPES.get(code, code.lower())


def _digest(folder: Path, files: list[Path]) -> str:
    stamps = {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files}
    store = folder / _DIGESTS
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(store.read_text(encoding="utf-8"))
        if known["files"] == stamps:
            return str(known["sha256"])
    digest = sha256_of(*files)
    with contextlib.suppress(OSError):  # a read-only folder is hashed anew each time
        store.write_text(json.dumps({"files": stamps, "sha256": digest}), encoding="utf-8")
    return digest


def _hub_origin(folder: Path) -> tuple[str | None, str | None]:
    """Name and commit of a folder inside the hub's cache: models--OWNER--NAME/snapshots/COMMIT."""
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return None, None
    return repository.removeprefix("models--").replace("--", "/", 1), folder.name


def _readme_licence(folder: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = (folder / "README.md").read_text(encoding="utf-8")[:10_000]
        if match := re.search(r"^license:\s*([\w.+-]+)\s*$", text, re.MULTILINE):
            return match[1]
    return "unknown"
