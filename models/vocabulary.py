"""Writes the byte-level BPE tokenizer that a GGUF file carries as tokenizer.json and its config.

The tokenizer is Qwen2's: NFC normalisation, the split pattern below, byte-level BPE with the
file's merges, and the file's control and user-defined tokens matched before everything else.
Rows that only pad the embedding matrix (`[PAD151665]` and the like) are no tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from eurekaflow.models.errors import ModelDamaged, UsageError

# Split pattern of Qwen2 and Qwen2.5 (tokenizer.json of Qwen's releases): digits one by one.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5  # GGUF token types; 1 is an ordinary token


class Metadata(Protocol):
    """Key/value part of a GGUF file."""

    def get(self, key: str, default: Any = None) -> Any: ...


def write_tokenizer(metadata: Metadata, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json (with the chat template) into `folder`."""
    _refuse_other_kinds(metadata)
    tokens: list[str] = metadata.get("tokenizer.ggml.tokens")
    types: list[int] = metadata.get("tokenizer.ggml.token_type")
    if len(tokens) != len(types):
        raise ModelDamaged(
            f"the GGUF file names {len(tokens)} tokens and {len(types)} token types",
            "fetch the file again",
        )
    _backend(tokens, types, metadata.get("tokenizer.ggml.merges")).save(
        str(folder / "tokenizer.json"), pretty=False
    )
    config = _tokenizer_config(metadata, tokens)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _refuse_other_kinds(metadata: Metadata) -> None:
    kind = (metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "default"))
    if kind != ("gpt2", "qwen2"):
        raise UsageError(
            f"the GGUF file has the tokenizer {kind[0]}/{kind[1]}; only gpt2/qwen2 is converted",
            "give the Hugging Face folder or id of this model instead",
        )


def _backend(tokens: list[str], types: list[int], merges: list[str]) -> Any:
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        normalizers,
        pre_tokenizers,
        processors,
    )
    from tokenizers.models import BPE

    added = {_CONTROL: True, _USER_DEFINED: False}
    vocabulary = {
        token: index
        for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind != _UNUSED and kind not in added
    }
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    try:
        tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=pairs))
    except Exception as error:  # the library raises nothing more specific
        raise ModelDamaged(
            f"the GGUF file's merges do not fit its tokens: {error}", "fetch the file again"
        ) from error
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(
        add_prefix_space=False, trim_offsets=False, use_regex=False
    )
    tokenizer.decoder = decoders.ByteLevel()
    for index, (token, kind) in enumerate(zip(tokens, types, strict=True)):
        if kind in added:
            _add(tokenizer, AddedToken(token, normalized=False, special=added[kind]), index)
    return tokenizer


def _add(tokenizer: Any, token: Any, index: int) -> None:
    """Append an added token and insist on its id: the library counts up from the vocabulary."""
    tokenizer.add_tokens([token])
    got = tokenizer.token_to_id(token.content)
    if got != index:
        raise UsageError(
            f"the added token {token.content!r} would get the id {got} instead of {index}: "
            "the added tokens of this GGUF file do not follow its vocabulary",
            "give the Hugging Face folder or id of this model instead",
        )


def _tokenizer_config(metadata: Metadata, tokens: list[str]) -> dict[str, Any]:
    end = tokens[metadata.get("tokenizer.ggml.eos_token_id")]
    padding = tokens[metadata.get("tokenizer.ggml.padding_token_id", tokens.index(end))]
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": end,
        "pad_token": padding,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": metadata.get("qwen2.context_length"),
    }
    template = metadata.get("tokenizer.chat_template", "")
    return config | ({"chat_template": template} if template else {})
