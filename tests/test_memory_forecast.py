"""The memory forecast: near what a model really has, and advice that fits the shortage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from eurekaflow.flows import cli, hardware, memory_forecast
from eurekaflow.flows.configure import Surroundings, resolve
from eurekaflow.models import adapter
from eurekaflow.models.forecast import Forecast, Sizes, activation_bytes, advice, forecast
from tests.tiny_models import write_tiny_model

GB = 10**9
QWEN_05B = {
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
SIZE = {"rows": 512, "tokens": 512, "prompt": 3000, "lora_rank": 32, "checkpointing": False}


def of(available: int, **changed: int) -> Forecast:
    return forecast(QWEN_05B, available=available, **{**SIZE, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["qwen2", "llama", "gpt_oss"])
def test_weights_and_adapters_are_counted_as_they_are(family: str, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, family=family)
    sizes = Sizes.of(json.loads((folder / "config.json").read_text()))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert sizes.parameters == pytest.approx(model.num_parameters(), rel=0.1)
    trained = adapter.parameters(adapter.attach(model, rank=4, alpha=8))
    assert sizes.adapter(4) == sum(p.numel() for p in trained.values())


def test_the_forecast_is_near_what_was_measured_on_a_gpu() -> None:
    # a peak of 46.7 GB, weights and adapter included, with 28,000 tokens packed; docs/log.md
    each = activation_bytes(QWEN_05B, learning=True, checkpointing=False)
    assert each * 28_000 == pytest.approx(44 * GB, rel=0.2)
    assert of(140 * GB).weights == pytest.approx(0.99 * GB, rel=0.02)


def test_checkpointing_needs_far_less_memory() -> None:
    each = [activation_bytes(QWEN_05B, learning=True, checkpointing=on) for on in (False, True)]
    assert each[1] < each[0] / 4


def test_advice_names_the_smallest_change_that_helps() -> None:
    whole = of(140 * GB, rows=4096)
    fixed = whole.weights + whole.adapter
    assert advice(whole, checkpointing=False) == ""
    assert "wait" in advice(of(fixed + whole.update, rows=4096), checkpointing=False)
    assert "checkpointing=true" in advice(of(fixed + whole.row), checkpointing=False)
    assert "max_new_tokens" in advice(of(fixed + whole.row), checkpointing=True)
    assert "smaller model" in advice(of(GB), checkpointing=False)


def test_a_run_that_does_not_fit_is_warned_of_with_the_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_model(tmp_path / "model")
    monkeypatch.setattr(hardware, "gpu_present", lambda environ: False)
    config = resolve("erdos", overrides={"model": str(folder)}).config
    here = Surroundings(home=tmp_path)
    assert memory_forecast.of_run(config, here).status == "pass"
    monkeypatch.setattr(hardware, "available_memory", lambda: 10**4)
    found = memory_forecast.of_run(config, here)
    assert found.status == "warn"
    assert "smaller model" in found.fix


def test_a_model_that_is_not_here_is_not_forecast(tmp_path: Path) -> None:
    assert memory_forecast.configuration("bundled", tmp_path) is None
    assert memory_forecast.configuration(str(tmp_path / "none"), tmp_path) is None


def test_a_dry_run_says_what_memory_the_model_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_model(tmp_path)
    capsys.readouterr()
    assert cli.main(["run", "erdos", "--dry-run", "--json", "--set", f"model={folder}"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["model"]["value"] == str(folder)
    assert "memory: " in said.err
    assert "needs about" in said.err


def test_a_model_that_also_sees_images_is_forecast_by_its_text_part() -> None:
    assert Sizes.of({"text_config": QWEN_05B, "vision_config": {}}) == Sizes.of(QWEN_05B)


def test_experts_are_counted_by_their_own_width() -> None:
    qwen3_30b = {
        "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144,
        "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
        "vocab_size": 151936, "tie_word_embeddings": False,
    }  # fmt: skip
    assert Sizes.of(qwen3_30b).parameters == pytest.approx(30.5e9, rel=0.02)
