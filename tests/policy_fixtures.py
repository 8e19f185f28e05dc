"""Fixtures for models at rest: the real bundled policy, and a tiny GGUF file of its kind."""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import numpy as np
import pytest
from tokenizers.pre_tokenizers import ByteLevel

from eurekaflow.models.weights import resolve_model

LAYERS, HIDDEN, INNER, HEADS, GROUPS = 2, 64, 128, 4, 2
MERGES = ["d e", "de f", "Ġ Ġ", "1 2"]  # "1 2" must never apply: digits are split one by one
ADDED = {"<|endoftext|>": 3, "<|im_start|>": 3, "<|im_end|>": 3, "<tool_call>": 4}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)


@pytest.fixture(scope="session")
def bundled_policy_folder() -> Path:
    """The real 0.5B policy, fetched and converted once into the user's own cache."""
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    home = os.environ.get("EUREKA_HOME") or f"{data}/eurekaflow"
    return resolve_model("bundled", Path(home).expanduser() / "models", progress=print)


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Qwen2 with random weights, quantised and tied like the bundled policy."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_tiny_gguf(path)
    return path


@pytest.fixture(scope="session")
def untied_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an output matrix of its own."""
    path = tmp_path_factory.mktemp("gguf") / "untied.gguf"
    write_tiny_gguf(path, tied=False)
    return path


def write_tiny_gguf(path: Path, *, tied: bool = True) -> None:
    tokens = vocabulary()
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    _add_tokenizer(writer, tokens)
    _add_tensors(writer, len(tokens), tied)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def vocabulary() -> dict[str, int]:
    """Token -> GGUF token type: bytes, merges, added tokens, then padding rows up to 288."""
    tokens = dict.fromkeys(sorted(ByteLevel.alphabet()), 1)
    tokens |= {merge.replace(" ", ""): 1 for merge in MERGES}
    tokens |= ADDED
    return tokens | {f"[PAD{index}]": 5 for index in range(len(tokens), 288)}


def _add_tokenizer(writer: gguf.GGUFWriter, tokens: dict[str, int]) -> None:
    names = list(tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(names)
    writer.add_token_types(list(tokens.values()))
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(names.index("<|im_end|>"))
    writer.add_pad_token_id(names.index("<|endoftext|>"))
    writer.add_bos_token_id(names.index("<|endoftext|>"))
    writer.add_chat_template(TEMPLATE)


def _add_tensors(writer: gguf.GGUFWriter, rows: int, tied: bool) -> None:
    kinds = gguf.GGMLQuantizationType
    draw = np.random.default_rng(5)

    def add(name: str, *shape: int, kind: gguf.GGMLQuantizationType = kinds.F32) -> None:
        writer.add_tensor(name, quantised(draw.normal(0, 0.3, shape), kind), raw_dtype=kind)

    embedding = draw.normal(0, 0.3, (rows, HIDDEN))
    output = embedding if tied else draw.normal(0, 0.3, (rows, HIDDEN))
    writer.add_tensor("output.weight", quantised(output, kinds.Q8_0), raw_dtype=kinds.Q8_0)
    writer.add_tensor("token_embd.weight", quantised(embedding, kinds.Q5_0), raw_dtype=kinds.Q5_0)
    add("output_norm.weight", HIDDEN)
    narrow = HIDDEN // HEADS * GROUPS
    for layer in range(LAYERS):
        prefix = f"blk.{layer}"
        add(f"{prefix}.attn_norm.weight", HIDDEN)
        add(f"{prefix}.ffn_norm.weight", HIDDEN)
        for part, width in {"q": HIDDEN, "k": narrow, "v": narrow}.items():
            add(f"{prefix}.attn_{part}.weight", width, HIDDEN, kind=kinds.Q5_0)
            add(f"{prefix}.attn_{part}.bias", width)
        add(f"{prefix}.attn_output.weight", HIDDEN, HIDDEN, kind=kinds.Q8_0)
        add(f"{prefix}.ffn_gate.weight", INNER, HIDDEN, kind=kinds.Q5_0)
        add(f"{prefix}.ffn_up.weight", INNER, HIDDEN, kind=kinds.Q5_0)
        add(f"{prefix}.ffn_down.weight", HIDDEN, INNER, kind=kinds.Q8_0)


def quantised(values: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    return gguf.quants.quantize(values.astype(np.float32), kind)
