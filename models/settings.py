"""What a run is configured with: one frozen `RunConfig`, and the presets that fill in its sizes.

Method settings (estimator, PUCT, KL, masks) default to the paper's everywhere; sizes (groups,
tokens, learning rate, budgets) come from a preset. The resolved configuration is stored with the
run.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from eurekaflow.models.errors import UsageError
from eurekaflow.models.masking import mask

PresetName = Literal["small-cpu", "small-gpu", "paper"]


class RunConfig(BaseModel):
    """Everything that decides a run, resolved once at the edge. Unknown names are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )

    problem: str = Field(description="canonical problem id, or the path of a problem file")
    seed: int = Field(0, ge=0, lt=2**31, description="random seed of the run")
    preset: str = Field("paper", description="preset that filled in the sizes")

    model: str = Field("bundled", description="bundled, a GGUF file, a model folder or a hub id")
    steps: int = Field(50, ge=1, description="steps to run")
    minutes: float | None = Field(
        None, gt=0, description="run time: stop at the end of the step nearest to it"
    )
    min_steps: int = Field(1, ge=1, description="steps committed before `minutes` may end the run")
    groups: int = Field(8, ge=1, description="parents per step")
    group_size: int = Field(64, ge=1, description="attempts per parent and step")
    wave: int = Field(64, ge=1, description="attempts of one group sampled together")

    max_new_tokens: int = Field(26000, ge=1, description="longest response, in tokens")
    temperature: float = Field(1.0, gt=0)
    window: int = Field(32768, ge=256, description="context window, in tokens")
    phase1_tokens: int | None = Field(
        None, ge=1, description="two-phase sampling: bound on prompt + thinking; none = one phase"
    )
    brief: bool = Field(False, description="short statement and start for small models")
    opening: bool = Field(False, description="open the answer for the model, masked from the loss")
    date: str = Field("2026-01-01", description="date shown to the model, fixed per run")

    advantage: Literal["entropic_adaptive", "entropic", "mean_baseline", "none"] = (
        "entropic_adaptive"
    )
    adv_beta: float = Field(2.0, gt=0, description="beta of the `entropic` estimator")
    adv_clip: float | None = Field(None, gt=0, description="upper clip of advantages")
    kl: float = Field(0.1, ge=0, description="coefficient of the KL to the base model")
    lr: float = Field(4e-5, gt=0)
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.95, ge=0, lt=1)
    adam_eps: float = Field(1e-8, gt=0)
    substeps: int = Field(1, ge=1, description="optimizer steps per step, contiguous chunks")
    lora_rank: int = Field(32, ge=1)
    lora_alpha: float = Field(32.0, gt=0)
    lora_experts: bool = Field(
        False, description="adapt the experts of a mixture too, in plain torch: slow"
    )
    micro_batch: int = Field(8, ge=1, description="responses per backward pass on a CPU")
    micro_tokens: int | None = Field(
        None, ge=1, description="tokens per backward pass, packed; none on a GPU: as many as fit"
    )
    checkpointing: bool = Field(
        False, description="keep layers' inputs only and compute activations again: less memory"
    )

    reuse: Literal["puct", "greedy", "fixed"] = "puct"
    epsilon: float = Field(0.1, ge=0, le=1, description="of `greedy` reuse")
    puct_c: float = Field(1.0, ge=0)
    visit_unit: Literal["expansion", "rollout"] = "expansion"
    scale_over: Literal["non_seed", "all"] = "non_seed"
    topk_children: int = Field(2, ge=0, description="children kept per parent; 0 = all")
    retention_scope: Literal["parent", "expansion"] = "parent"
    archive_cap: int = Field(1000, ge=1, description="eligible nodes kept, seeds included")

    budget_s: float = Field(1000.0, gt=0, description="seconds a candidate is told it has")
    cases: int = Field(150, ge=1, le=150, description="inputs a contest program is tried on")
    memory_mb: int = Field(1024, ge=64, description="address space of a candidate")
    workers: int = Field(2, ge=1, description="candidates verified at the same time")
    threads: int = Field(2, ge=1, description="CPU threads of the policy")
    sandbox: Literal["process", "docker"] = Field(
        "process", description="what candidates run in: namespaces on this machine, or containers"
    )
    sandbox_layers: str = Field(
        "", description="layers without which the run refuses, separated by commas"
    )
    sandbox_runtime: str | None = Field(
        None, description="runtime of the containers, such as runsc; none = the engine's default"
    )
    exclusive_cores: bool | None = Field(
        None,
        description="a core to itself for each candidate, over all runs of this machine; "
        "none = where the problem is timed",
    )
    checkpoint_every: int = Field(
        1, ge=1, description="steps from one saved version to the next; those between are replayed"
    )
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints kept on disk")
    keep_every: int | None = Field(None, ge=1, description="and every n-th; none = no others")
    keep_best: bool = Field(False, description="and that of the step with the best attempt")

    max_attempts: int | None = Field(None, ge=1, description="budget: attempts of the run")
    max_tokens: int | None = Field(None, ge=1, description="budget: tokens in, out and trained")
    max_cpu_hours: float | None = Field(None, gt=0, description="budget: CPU hours, all stages")
    max_gpu_hours: float | None = Field(None, gt=0, description="budget: GPU hours")
    max_money: float | None = Field(None, gt=0, description="budget: money, by the prices")
    price_input: float = Field(0.0, ge=0, description="price of 1M prompt tokens")
    price_output: float = Field(0.0, ge=0, description="price of 1M sampled tokens")
    price_trained: float = Field(0.0, ge=0, description="price of 1M trained tokens")
    price_cpu_hour: float = Field(0.0, ge=0, description="price of a CPU hour")
    price_gpu_hour: float = Field(0.0, ge=0, description="price of a GPU hour")
    mean_prompt: int | None = Field(None, ge=1, description="forecast: tokens of a prompt")
    mean_response: int | None = Field(None, ge=1, description="forecast: tokens of a response")

    target: float | None = Field(None, description="end at this score")
    stop_on_record: bool = Field(False, description="end when the record is beaten")
    stop_flat: int | None = Field(None, ge=1, description="end after steps without improvement")
    stop_entropy: float | None = Field(
        None, gt=0, description="end below this many nats per token for 3 steps"
    )
    stop_validity: float | None = Field(
        None, gt=0, le=1, description="end below this valid fraction for 3 steps"
    )
    when_stuck: Literal["stop", "restart"] = Field(
        "stop", description="nightly, once stuck: leave the run, or go on with fresh weights"
    )
    disk_reserve_mb: int = Field(500, ge=0, description="pause before less disk is free")

    @model_validator(mode="after")
    def _entropic_groups_are_large_enough(self) -> Self:
        if self.advantage.startswith("entropic") and self.group_size < 4:
            raise ValueError(
                f"group_size is {self.group_size}, but the entropic advantage needs at least 4"
            )
        return self

    @model_validator(mode="after")
    def _holds_no_secret(self) -> Self:
        for name in ("problem", "model", "sandbox_layers"):
            if mask(text := str(getattr(self, name))) != text:
                raise ValueError(
                    f"{name} holds a secret ({mask(text)}), and settings are stored with the run; "
                    "put it into the environment"
                )
        return self

    @model_validator(mode="after")
    def _prompt_leaves_room(self) -> Self:
        if self.max_new_tokens + 50 >= self.window:
            raise ValueError(
                f"max_new_tokens {self.max_new_tokens} leaves no room in a window of {self.window}"
            )
        return self


PRESETS: dict[str, dict[str, Any]] = {
    "small-cpu": {
        "model": "bundled",
        "steps": 12,
        "minutes": 5.0,
        "min_steps": 5,
        "groups": 2,
        "group_size": 12,
        "wave": 12,
        "max_new_tokens": 40,
        "window": 2048,
        "brief": True,
        "opening": True,
        "lr": 5e-5,
        "budget_s": 1.0,
        "cases": 3,
        "micro_batch": 12,
    },
    "small-gpu": {
        "model": "bundled",
        "steps": 50,
        "groups": 8,
        "group_size": 64,
        "wave": 64,
        "max_new_tokens": 512,
        "window": 4096,
        "brief": True,
        "opening": True,
        "lr": 1e-4,
        "budget_s": 0.5,
        "cases": 10,
        "micro_batch": 32,
        "checkpoint_every": 8,
    },
    "paper": {
        "model": "openai/gpt-oss-120b",
        "steps": 50,
        "groups": 8,
        "group_size": 64,
        "wave": 64,
        "max_new_tokens": 32000,
        "window": 32768,
        "phase1_tokens": 26000,
        "mean_prompt": 3000,
        "mean_response": 16000,
    },
}


def preset_values(name: str) -> dict[str, Any]:
    """The sizes of a preset; raises UsageError for an unknown name."""
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}", f"choose one of: auto, {', '.join(PRESETS)}")
    return {**PRESETS[name], "preset": name}
