"""Tiny random language models with a byte tokenizer, as Hugging Face folders, for policy tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GemmaConfig,
    GptOssConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

END = "<|im_end|>"
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = [END, "<|im_start|>", "<think>", "</think>"]
SIZES = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}

ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]
OWN: dict[str, dict[str, Any]] = {  # windows shorter than the prompts of the tests
    "gemma2": {
        "sliding_window": 12,
        "layer_types": ALTERNATING,
        "query_pre_attn_scalar": 8,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3": {"sliding_window": 12, "layer_types": ALTERNATING, "query_pre_attn_scalar": 8},
    "qwen3_moe": {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {
        "sliding_window": 12,
        "layer_types": ALTERNATING,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
}


def write_tiny_model(folder: Path, *, family: str = "qwen2", tied: bool = True) -> Path:
    """A random model with 700 tokens: bytes, special tokens, and ids that decode to nothing."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(3)
    config = _config(family, tied, int(tokenizer.eos_token_id))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_tiny_seeing_model(folder: Path) -> tuple[Path, Path]:
    """A random Gemma 3 that also sees images, and its text part as a model by itself."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(3)
    text = _config("gemma3", True, int(tokenizer.eos_token_id))
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision = {**sizes, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    whole = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    part = AutoModelForCausalLM.from_config(text, dtype=torch.float32)
    part.model.load_state_dict(whole.model.language_model.state_dict())
    for name, model in (("whole", whole), ("part", part)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder / "whole", folder / "part"


def byte_tokenizer(chat: str = CHAT, special: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*SPECIAL, *special])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    fast.chat_template = chat
    return fast


def _config(family: str, tied: bool, end: int) -> PreTrainedConfig:
    kinds: dict[str, type[PreTrainedConfig]] = {
        "qwen2": Qwen2Config,
        "qwen3": Qwen3Config,
        "llama": LlamaConfig,
        "gemma": GemmaConfig,
        "gemma2": Gemma2Config,
        "gemma3": Gemma3TextConfig,
        "gpt_oss": GptOssConfig,
        "qwen3_moe": Qwen3MoeConfig,
    }
    own = {**SIZES, **OWN.get(family, {})}
    return kinds[family](**own, vocab_size=700, tie_word_embeddings=tied, eos_token_id=end)
