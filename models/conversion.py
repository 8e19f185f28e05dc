"""Turns a GGUF file of the Qwen2 family into a Hugging Face folder, once, without torch.

A GGUF file holds what a folder holds: configuration and tokenizer as metadata, weights as
block-quantised tensors. transformers can read it, but dequantises again at every start and
cannot save the result; so the weights are dequantised here to `dtype`, row block by row block,
and streamed into one safetensors file.

Qwen2 tensors keep Hugging Face's order in GGUF: the rotary permutation that llama files carry
in their query and key rows does not exist here, and biases are plain vectors.

Tied embeddings: a small Qwen2 shares one matrix between input and output. A GGUF file may store
it twice with different precision (`token_embd` Q5_0, `output` Q8_0). When both agree, the one
with more bits is kept and the folder says `tie_word_embeddings`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from eurekaflow.models.errors import EurekaError, ModelDamaged, UsageError
from eurekaflow.models.vocabulary import write_tokenizer

Dtype = Literal["bfloat16", "float16", "float32"]

_CODES: dict[Dtype, tuple[str, int]] = {
    "bfloat16": ("BF16", 2),
    "float16": ("F16", 2),
    "float32": ("F32", 4),
}
_BLOCK_VALUES = 1 << 19  # values dequantised at once: 2 MB in float32, so it stays in cache
_TIED_CORRELATION = 0.9  # two quantisations of one matrix reach 0.99, unrelated matrices 0.0

_LAYER_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_q.bias": "self_attn.q_proj.bias",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_k.bias": "self_attn.k_proj.bias",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_v.bias": "self_attn.v_proj.bias",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}


@dataclass(frozen=True)
class StoredTensor:
    """One quantised tensor of a GGUF file and the name it gets in the folder."""

    name: str
    rows: npt.NDArray[Any]  # raw blocks, one entry per row (one in all for a vector)
    kind: Any  # gguf.GGMLQuantizationType
    shape: tuple[int, ...]

    @property
    def values(self) -> int:
        return int(np.prod(self.shape))


def convert_gguf(gguf: Path, target: Path, *, dtype: Dtype = "bfloat16") -> Path:
    """Write `gguf` as a Hugging Face folder into the empty or absent folder `target`.

    Flushing and publishing the folder atomically is the caller's part.

    Raises:
        ModelDamaged: the file is torn or is no GGUF.
        UsageError: another architecture than Qwen2, or an unknown `dtype`.
    """
    if dtype not in _CODES:
        raise UsageError(f"dtype {dtype!r} is unknown", f"use one of {', '.join(_CODES)}")
    try:
        _convert(gguf, target, dtype)
    except EurekaError:
        raise
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise ModelDamaged(
            f"{gguf} ({gguf.stat().st_size} bytes) is no complete GGUF file: {error}",
            "fetch the file again",
        ) from error
    return target


def _convert(gguf: Path, target: Path, dtype: Dtype) -> None:
    from gguf import GGUFReader

    reader = GGUFReader(gguf)
    metadata = GgufMetadata(reader, gguf)
    architecture = metadata.get("general.architecture")
    if architecture != "qwen2":
        raise UsageError(
            f"{gguf} holds a {architecture!r} model; only 'qwen2' GGUF files are converted",
            "give the Hugging Face folder or id of this model instead",
        )
    tensors, tied = _named(reader, gguf)
    _refuse_missing(tensors, int(metadata.get("qwen2.block_count")), gguf)
    target.mkdir(parents=True, exist_ok=True)
    _write_json(target / "config.json", _config(metadata, tensors, tied=tied, dtype=dtype))
    _write_json(target / "generation_config.json", _generation_config(metadata))
    write_tokenizer(metadata, target)
    _write_safetensors(target / "model.safetensors", tensors, dtype)


class GgufMetadata:
    """Key/value part of a GGUF file; a missing key is damage unless a default is given."""

    def __init__(self, reader: Any, path: Path) -> None:
        self._fields = reader.fields
        self._path = path

    def get(self, key: str, default: Any = None) -> Any:
        if key in self._fields:
            return self._fields[key].contents()
        if default is not None:
            return default
        raise ModelDamaged(f"{self._path} has no metadata {key!r}", "use another GGUF file")


def _named(reader: Any, path: Path) -> tuple[list[StoredTensor], bool]:
    """The tensors under their Hugging Face names, and whether input and output are tied."""
    by_gguf_name = {tensor.name: tensor for tensor in reader.tensors}
    output = by_gguf_name.pop("output.weight", None)
    embedding = by_gguf_name.pop("token_embd.weight", None)
    norm = by_gguf_name.pop("output_norm.weight", None)
    if embedding is None or norm is None:
        raise ModelDamaged(f"{path} lacks token_embd or output_norm", "use another GGUF file")
    named = [_stored("model.norm.weight", norm)]
    tied = output is None or same_matrix(embedding, output)
    if tied:
        named.append(_stored("model.embed_tokens.weight", _finer(embedding, output)))
    else:
        named.append(_stored("model.embed_tokens.weight", embedding))
        named.append(_stored("lm_head.weight", output))
    named += [_stored(_layer_name(name, path), tensor) for name, tensor in by_gguf_name.items()]
    return sorted(named, key=lambda tensor: tensor.name), tied


def _refuse_missing(tensors: list[StoredTensor], layers: int, path: Path) -> None:
    """A split or cut file still parses; a layer without weights would be trained from noise."""
    got = {tensor.name for tensor in tensors}
    parts = _LAYER_NAMES.values()
    wanted = {f"model.layers.{layer}.{part}" for layer in range(layers) for part in parts}
    if missing := sorted(wanted - got):
        raise ModelDamaged(
            f"{path} lacks {len(missing)} tensors of its {layers} layers, first {missing[0]}",
            "use a complete, unsplit GGUF file",
        )


def _layer_name(name: str, path: Path) -> str:
    prefix, _, rest = name.partition(".")
    layer, _, part = rest.partition(".")
    if prefix != "blk" or part not in _LAYER_NAMES:
        raise UsageError(
            f"{path} holds the tensor {name!r}, which a Qwen2 model does not have",
            "give the Hugging Face folder or id of this model instead",
        )
    return f"model.layers.{int(layer)}.{_LAYER_NAMES[part]}"


def _stored(name: str, tensor: Any) -> StoredTensor:
    shape = tuple(int(size) for size in reversed(tensor.shape))  # GGUF counts from the inside
    return StoredTensor(name, np.atleast_2d(tensor.data), tensor.tensor_type, shape)


def _finer(embedding: Any, output: Any | None) -> Any:
    if output is None:
        return embedding
    return max(embedding, output, key=lambda tensor: int(tensor.n_bytes))


def same_matrix(first: Any, second: Any) -> bool:
    """Whether two quantised GGUF tensors are one matrix stored twice (256 rows are compared)."""
    if tuple(first.shape) != tuple(second.shape):
        return False
    rows = np.linspace(0, len(first.data) - 1, min(256, len(first.data))).astype(int)
    left, right = (_dequantised(t.data[rows], t.tensor_type).ravel() for t in (first, second))
    scale = float(np.linalg.norm(left) * np.linalg.norm(right))
    return scale > 0 and float(left @ right) / scale > _TIED_CORRELATION


def _dequantised(rows: npt.NDArray[Any], kind: Any) -> npt.NDArray[np.float32]:
    from gguf.quants import dequantize

    return np.asarray(dequantize(np.ascontiguousarray(rows), kind), dtype=np.float32)


def to_bfloat16_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """float32 -> bfloat16 as raw bits, rounded to nearest even as torch does.

    >>> hex(to_bfloat16_bits(np.array([1.0], dtype=np.float32))[0])
    '0x3f80'
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits >> 16) & 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    if np.isnan(values).any():  # rounding could carry a NaN into infinity
        rounded = np.where(np.isnan(values), np.uint32(0x7FC0), rounded)
    return rounded.astype(np.uint16)


def _encoded(values: npt.NDArray[np.float32], dtype: Dtype) -> bytes:
    if dtype == "bfloat16":
        return to_bfloat16_bits(values).astype("<u2").tobytes()
    return values.astype("<f2" if dtype == "float16" else "<f4").tobytes()


def _blocks(tensor: StoredTensor) -> Iterator[npt.NDArray[np.float32]]:
    step = max(1, _BLOCK_VALUES * len(tensor.rows) // tensor.values)
    for start in range(0, len(tensor.rows), step):
        yield _dequantised(tensor.rows[start : start + step], tensor.kind)


def _write_safetensors(path: Path, tensors: list[StoredTensor], dtype: Dtype) -> None:
    """The safetensors layout: header length (8 bytes), JSON header, tensors end to end.

    Written as a stream, because the library wants every tensor in memory at once.
    """
    code, width = _CODES[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.values * width
        header[tensor.name] = {"dtype": code, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # tensors start aligned
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in tensors:
            for block in _blocks(tensor):
                file.write(_encoded(block, dtype))


def _short(value: float) -> float:
    """The decimal that was meant by a float32: 9.99999997e-07 -> 1e-06."""
    return float(str(np.float32(value)))


def _config(
    metadata: GgufMetadata, tensors: list[StoredTensor], *, tied: bool, dtype: Dtype
) -> dict[str, Any]:
    embedding = next(t for t in tensors if t.name == "model.embed_tokens.weight")
    layers = int(metadata.get("qwen2.block_count"))
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": embedding.shape[0],
        "hidden_size": metadata.get("qwen2.embedding_length"),
        "intermediate_size": metadata.get("qwen2.feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": metadata.get("qwen2.attention.head_count"),
        "num_key_value_heads": metadata.get(
            "qwen2.attention.head_count_kv", metadata.get("qwen2.attention.head_count")
        ),
        "hidden_act": "silu",
        "max_position_embeddings": metadata.get("qwen2.context_length"),
        "max_window_layers": layers,
        "use_sliding_window": False,
        "rope_theta": _short(metadata.get("qwen2.rope.freq_base", 10000.0)),
        "rms_norm_eps": _short(metadata.get("qwen2.attention.layer_norm_rms_epsilon")),
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": tied,
        "use_cache": True,
        "dtype": dtype,
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id", _end(metadata)),
        "eos_token_id": _end(metadata),
    }


def _end(metadata: GgufMetadata) -> int:
    return int(metadata.get("tokenizer.ggml.eos_token_id"))


def _generation_config(metadata: GgufMetadata) -> dict[str, Any]:
    """Both ends stop generation: the end of a turn and the end of a text (Qwen's own choice)."""
    padding = int(metadata.get("tokenizer.ggml.padding_token_id", _end(metadata)))
    return {
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id", _end(metadata)),
        "eos_token_id": list(dict.fromkeys([_end(metadata), padding])),
        "pad_token_id": padding,
        "do_sample": False,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
