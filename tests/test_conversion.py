"""A converted folder holds what the GGUF file holds: the same weights and the same token ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from eurekaflow.models.conversion import convert_gguf, to_bfloat16_bits
from eurekaflow.models.errors import ModelDamaged, UsageError
from eurekaflow.models.weights import resolve_model

HARD_STRINGS = [
    "",
    "  \n\n\t x",
    "don't WE'LL It'S",
    "１２３ 12345 ٣٤",
    "é é \u1e9b\u0323",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|><|im_start",
    "<tool_call>{}</tool_call>",
    "日本語 中文 한국어 🎉👩‍👩‍👧",
    "\x00\x01\u200b\ufeff\u00a0\u3000 x\u2028y",
    "def f(x):\r\n\treturn x**2  # ok\r\n\r\n   ",
]


def gguf_tensors(path: Path) -> dict[str, np.ndarray]:
    import gguf

    return {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(path).tensors
    }


def load(folder: Path, **options: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **options)


@settings(deadline=None)  # the first example imports torch
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_bfloat16_is_rounded_as_torch_rounds(patterns: list[int]) -> None:
    import torch

    values = np.array(patterns, dtype=np.uint32).view(np.float32)
    ours = torch.from_numpy(to_bfloat16_bits(values).view(np.int16)).view(torch.bfloat16)
    theirs = torch.from_numpy(values).to(torch.bfloat16)
    assert torch.equal(ours.isnan(), theirs.isnan())
    assert torch.equal(ours[~ours.isnan()], theirs[~theirs.isnan()])


def test_of_a_matrix_stored_twice_the_finer_copy_is_kept(tiny_gguf: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    convert_gguf(tiny_gguf, tmp_path, dtype="float32")
    weights, stored = load_file(tmp_path / "model.safetensors"), gguf_tensors(tiny_gguf)
    assert "lm_head.weight" not in weights
    np.testing.assert_array_equal(weights["model.embed_tokens.weight"], stored["output.weight"])
    assert not np.array_equal(stored["output.weight"], stored["token_embd.weight"])
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is True


def test_an_output_matrix_of_its_own_is_kept(untied_gguf: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    convert_gguf(untied_gguf, tmp_path, dtype="float32")
    weights, stored = load_file(tmp_path / "model.safetensors"), gguf_tensors(untied_gguf)
    np.testing.assert_array_equal(weights["lm_head.weight"], stored["output.weight"])
    np.testing.assert_array_equal(
        weights["model.embed_tokens.weight"], stored["token_embd.weight"]
    )
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.slow
def test_logits_equal_those_of_transformers_own_gguf_reader(
    untied_gguf: Path, tmp_path: Path
) -> None:
    import torch

    convert_gguf(untied_gguf, tmp_path, dtype="float32")
    ours = load(tmp_path, dtype=torch.float32)
    theirs = load(untied_gguf.parent, gguf_file=untied_gguf.name, dtype=torch.float32)
    tokens = torch.arange(100).reshape(2, 50)
    with torch.no_grad():
        assert torch.equal(ours(tokens).logits, theirs(tokens).logits)


@pytest.mark.slow
def test_token_ids_equal_those_of_transformers_own_gguf_reader(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    convert_gguf(tiny_gguf, tmp_path)
    ours = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    theirs = AutoTokenizer.from_pretrained(tiny_gguf.parent, gguf_file=tiny_gguf.name)
    raw = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in HARD_STRINGS:
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]
        assert ours(text)["input_ids"] == raw.encode(text).ids
    messages = [{"role": "user", "content": "hi"}]
    assert ours.apply_chat_template(messages, tokenize=False) == (
        "<|im_start|>user\nhi<|im_end|>\n"
    )


def test_digits_are_split_although_a_merge_would_join_them(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(convert_gguf(tiny_gguf, tmp_path) / "tokenizer.json"))
    assert tokenizer.encode("def  12").tokens == ["def", "Ġ", "Ġ", "1", "2"]


def test_padding_rows_are_no_tokens(tiny_gguf: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(convert_gguf(tiny_gguf, tmp_path) / "tokenizer.json"))
    assert tokenizer.token_to_id("[PAD270]") is None
    assert tokenizer.get_vocab_size() == 264


def test_control_tokens_vanish_on_decoding_and_user_defined_ones_stay(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(convert_gguf(tiny_gguf, tmp_path) / "tokenizer.json"))
    ids = tokenizer.encode("<|im_start|>a<tool_call>b<|im_end|>").ids
    assert len(ids) == 5
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<tool_call>b"


def test_settings_are_the_decimals_that_were_meant(tiny_gguf: Path, tmp_path: Path) -> None:
    config = json.loads((convert_gguf(tiny_gguf, tmp_path) / "config.json").read_text())
    assert (config["rms_norm_eps"], config["rope_theta"]) == (1e-6, 1e6)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UsageError, match="'llama'"):
        convert_gguf(tmp_path / "other.gguf", tmp_path / "target")


def test_a_file_without_all_its_layers_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    content = tiny_gguf.read_bytes().replace(b"blk.1.attn_q.bias", b"blk.7.attn_q.bias")
    (tmp_path / "part.gguf").write_bytes(content)
    with pytest.raises(ModelDamaged, match=r"first model\.layers\.1\.self_attn\.q_proj\.bias"):
        convert_gguf(tmp_path / "part.gguf", tmp_path / "target")


@pytest.mark.parametrize("keep", [0, 3, 4, 100, 5_000, 50_000, 100_000])
def test_a_truncated_gguf_file_is_refused_and_leaves_nothing(
    tiny_gguf: Path, tmp_path: Path, keep: int
) -> None:
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(tiny_gguf.read_bytes()[:keep])
    with pytest.raises((ModelDamaged, UsageError), match=r"torn\.gguf"):
        resolve_model(str(torn), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("converted/*"))


def test_merges_of_unknown_tokens_are_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    content = tiny_gguf.read_bytes().replace(b"de f", b"de \x01")
    (tmp_path / "merges.gguf").write_bytes(content)
    with pytest.raises(ModelDamaged, match="merges do not fit"):
        convert_gguf(tmp_path / "merges.gguf", tmp_path / "target")


@pytest.mark.policy
@pytest.mark.slow
def test_the_bundled_policy_continues_a_program_fluently(bundled_policy_folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bundled_policy_folder, local_files_only=True)
    model = load(bundled_policy_folder, dtype=torch.bfloat16)
    prompt = tokenizer("def fibonacci(n):", return_tensors="pt")
    tokens = model.generate(**prompt, max_new_tokens=20, do_sample=False)
    text = tokenizer.decode(tokens[0])
    assert text.startswith("def fibonacci(n):\n    if n ")
    assert "return" in text


@pytest.mark.policy
def test_the_bundled_policy_has_the_ids_of_qwen(bundled_policy_folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(bundled_policy_folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 151665
    assert tokenizer.encode("<|im_start|>user\nHello, world 12!<|im_end|>").ids == [
        151644, 872, 198, 9707, 11, 1879, 220, 16, 17, 0, 151645,
    ]  # fmt: skip
    assert tokenizer.encode("<|endoftext|><|fim_prefix|>").ids == [151643, 151659]
    for text in HARD_STRINGS[:3] + HARD_STRINGS[7:]:
        ids = tokenizer.encode(text).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
