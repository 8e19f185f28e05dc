"""A step's sampling and update on one NVIDIA GPU, beside transformers, in one run.

Usage: python tests/benchmarks/gpu_step.py [MODEL_FOLDER] [--groups 8] [--rows 64] [--tokens 256]
[--prompt 512]. Prints the ceilings measured here, the written floors, ours, and theirs:
`generate`, `generate_batch`, and an update with full logits. Ratios are of figures of this run.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from eurekaflow.flows.configure import surroundings
from eurekaflow.models.forecast import Sizes
from eurekaflow.models.local import LocalPolicy
from eurekaflow.models.policy import (
    Response,
    TrainedGroup,
    TrainedResponse,
    UpdateSettings,
    Version,
    Wave,
)
from eurekaflow.models.weights import resolve_model


def main() -> None:
    a = _arguments()
    if not torch.cuda.is_available():
        print("nothing to measure: torch sees no NVIDIA GPU")
        return
    if a.folder is None:
        a.folder = resolve_model("bundled", surroundings().home / "models")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    copy, flops = ceilings()
    print(f"copy {copy / 1e12:.2f} TB/s, bf16 matmul {flops / 1e12:.0f} TFLOP/s")
    policy = LocalPolicy(a.folder, lora_rank=32, lora_alpha=32, seed=0, threads=4)
    policy.renderer.stop_ids = frozenset()
    policy.ensure(Version(number=0))
    with torch.no_grad():  # a trained adapter: the base pass is not skipped
        for layer in policy._layers.values():
            layer.lora_B.normal_(0, 1e-3)
    waves = _waves(a)
    sizes = Sizes.of(policy._model.config)
    responses, ours = sampling(policy, waves)
    floor = sampling_floor(sizes, a, copy, flops)
    count = a.groups * a.rows * a.tokens
    print(f"sampling: {ours:.3f} s, {count / ours:.0f} tokens/s, {_peak():.1f} GB peak")
    print(f"  floor {floor:.3f} s: {floor / ours:.0%} of it")
    spent = update(policy, waves, responses)
    work = update_flops(sizes, a)
    print(
        f"update: {spent:.3f} s, {_peak():.1f} GB peak, {work / spent / flops:.0%} of the matmul"
    )
    del policy
    gc.collect()
    theirs(a, waves, responses, ours, spent)


def ceilings() -> tuple[float, float]:
    """Bytes read and written per second by a copy, and bf16 operations per second."""
    x = torch.randn(2**28, device="cuda")
    y = torch.empty_like(x)
    seconds = _timed(lambda: y.copy_(x))
    m, n = torch.randn(2, 8192, 8192, device="cuda", dtype=torch.bfloat16)
    return 2 * 4 * x.numel() / seconds, 2 * 8192**3 / _timed(lambda: m @ n)


def sampling_floor(sizes: Sizes, a: argparse.Namespace, copy: float, flops: float) -> float:
    """Seconds below which no sampler gets: per step products or weights, keys, logits once."""
    rows = a.groups * a.rows
    products = 2 * rows * sizes.parameters / flops
    weights = 2 * sizes.parameters / copy
    prompts = a.groups * a.prompt * sizes.key_bytes / copy
    own = rows * (a.tokens / 2) * sizes.key_bytes / copy
    return a.tokens * (max(products, weights) + prompts + own)


def update_flops(sizes: Sizes, a: argparse.Namespace) -> float:
    """Forward, activation gradients and base pass, each prompt once."""
    tokens = a.groups * (a.prompt + a.rows * a.tokens)
    return 3 * 2.0 * tokens * sizes.parameters


def sampling(policy: LocalPolicy, waves: list[Wave]) -> tuple[list[list[Response]], float]:
    best = float("inf")
    for _ in range(3):  # the first captures graphs
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        found = list(policy.sample_together(waves))
        best = min(best, time.perf_counter() - start)
    return [[r for i, r in found if i == wave] for wave in range(len(waves))], best


def update(policy: LocalPolicy, waves: list[Wave], responses: list[list[Response]]) -> float:
    groups = [
        TrainedGroup(prompt_ids=wave.prompt_ids, responses=_trained(rs))
        for wave, rs in zip(waves, responses, strict=True)
    ]
    best = float("inf")
    for _ in range(3):
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        metrics = policy._trainer.update(groups, UpdateSettings(lr=1e-6))
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    print(
        f"log-prob gap: mean {metrics['logprob_gap_mean']:.1e}, half mean square "
        f"{metrics['logprob_gap_half_mean_square']:.1e}, most {metrics['logprob_gap_max']:.2f}"
    )
    return best


def theirs(
    a: argparse.Namespace,
    waves: Sequence[Wave],
    responses: Sequence[Sequence[Response]],
    ours: float,
    spent: float,
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(a.folder, dtype=torch.bfloat16).cuda().eval()
    _named("generate", lambda: generate(model, a, waves), ours)
    _named("generate_batch", lambda: generate_batch(model, a, waves), ours)
    _named("full-logits update", lambda: full_logits(model, a, waves, responses), spent)


def _named(name: str, run: Callable[[], float], ours: float) -> None:
    try:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        seconds = run()
        print(f"{name}: {seconds:.2f} s, {_peak():.1f} GB peak; ours {seconds / ours:.1f}x")
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}"[:300])


def generate(model: torch.nn.Module, a: argparse.Namespace, waves: Sequence[Wave]) -> float:
    ids = torch.tensor([w.prompt_ids for w in waves for _ in w.slots], device="cuda")
    start = time.perf_counter()
    model.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=0,
        top_p=1.0,
        max_new_tokens=a.their_tokens,
        min_new_tokens=a.their_tokens,
        pad_token_id=0,
    )
    torch.cuda.synchronize()
    return (time.perf_counter() - start) * a.tokens / a.their_tokens


def generate_batch(model: torch.nn.Module, a: argparse.Namespace, waves: Sequence[Wave]) -> float:
    from transformers import GenerationConfig

    config = GenerationConfig(
        do_sample=True, max_new_tokens=a.their_tokens, eos_token_id=-1, pad_token_id=0
    )
    inputs = [list(w.prompt_ids) for w in waves for _ in w.slots]
    start = time.perf_counter()
    model.generate_batch(inputs=inputs, generation_config=config)  # type: ignore[operator]
    torch.cuda.synchronize()
    return (time.perf_counter() - start) * a.tokens / a.their_tokens


def full_logits(
    model: torch.nn.Module,
    a: argparse.Namespace,
    waves: Sequence[Wave],
    responses: Sequence[Sequence[Response]],
) -> float:
    """PEFT's LoRA, whole sequences of one length, logits of every token; the base pass too."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=32, lora_alpha=32, target_modules="all-linear")
    lora = get_peft_model(model, config)
    pairs = [(w, r) for w, rs in zip(waves, responses, strict=True) for r in rs][: a.their_rows]
    rows = np.array([[*w.prompt_ids, *r.token_ids] for w, r in pairs])
    ids = torch.from_numpy(rows).cuda()
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        for part in ids.split(8):
            with torch.no_grad(), lora.disable_adapter():
                _full_loss(lora, part, a.prompt)
            _full_loss(lora, part, a.prompt).backward()
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best * a.groups * a.rows / len(ids)


def _full_loss(model: torch.nn.Module, ids: torch.Tensor, prompt: int) -> torch.Tensor:
    logits = model(input_ids=ids).logits[:, prompt - 1 : -1].float()
    logp = logits.log_softmax(-1).gather(2, ids[:, prompt:, None])
    return -logp.sum()


def _trained(responses: list[Response]) -> tuple[TrainedResponse, ...]:
    return tuple(
        TrainedResponse(
            token_ids=r.token_ids, logprobs=r.logprobs, mask=r.mask, advantage=(-1.0) ** i
        )
        for i, r in enumerate(responses)
    )


def _waves(a: argparse.Namespace) -> list[Wave]:
    rng = np.random.default_rng(0)
    return [
        Wave(
            run_seed=0,
            step=0,
            group_index=group,
            slots=tuple(range(a.rows)),
            prompt_ids=tuple(rng.integers(1000, 100000, a.prompt).tolist()),
            max_new_tokens=a.tokens,
            window=a.prompt + a.tokens + 64,
        )
        for group in range(a.groups)
    ]


def _timed(run: Callable[[], object], repeats: int = 10) -> float:
    run()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def _peak() -> float:
    return torch.cuda.max_memory_allocated() / 1e9


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=None, help="the bundled policy")
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--their-tokens", type=int, default=48, help="scaled up to --tokens")
    parser.add_argument("--their-rows", type=int, default=64, help="of the update, scaled up")
    return parser.parse_args()


if __name__ == "__main__":
    main()
