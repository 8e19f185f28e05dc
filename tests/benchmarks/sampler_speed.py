"""New tokens per second: the wave sampler beside transformers' `generate`, same everything.

Usage: python tests/benchmarks/sampler_speed.py [MODEL_FOLDER] [--rows 12 32] [--tokens 24]
[--prompt 256] [--threads 2] [--repeats 3]. Both sides get one prompt of so many tokens, one model,
one dtype and the same cores in one process; neither stops early. They take turns after a short
call each, and the median of the repeats is shown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from eurekaflow.flows.configure import surroundings
from eurekaflow.models.weights import resolve_model

Sampled = Callable[[int, int], int]  # rows and tokens each -> new tokens in all


def main() -> None:
    arguments = _arguments()
    sides = _ours(arguments), _theirs(arguments)
    print(f"{'rows':>5} {'generate':>10} {'ours':>10} {'ratio':>7}   (new tokens per second)")
    for rows in arguments.rows:
        for side in sides:
            side(rows, 2)
        rates = [
            [_rate(side, rows, arguments.tokens) for side in sides]
            for _ in range(arguments.repeats)
        ]
        ours, theirs = map(statistics.median, zip(*rates, strict=True))
        print(f"{rows:>5} {theirs:>10.1f} {ours:>10.1f} {ours / theirs:>6.1f}x", flush=True)


def _rate(side: Sampled, rows: int, tokens: int) -> float:
    started = time.perf_counter()
    return side(rows, tokens) / (time.perf_counter() - started)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=None, help="the bundled policy")
    parser.add_argument("--rows", type=int, nargs="+", default=[12, 32, 64])
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--prompt", type=int, default=256, help="tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.folder is None:
        arguments.folder = resolve_model("bundled", surroundings().home / "models")
    return arguments


def _ours(arguments: argparse.Namespace) -> Sampled:
    from eurekaflow.models.local import LocalPolicy
    from eurekaflow.models.policy import Version, Wave

    policy = LocalPolicy(
        arguments.folder, lora_rank=32, lora_alpha=32, seed=0, threads=arguments.threads
    )
    policy.renderer.stop_ids = frozenset()
    policy.ensure(Version(number=0))

    def sampled(rows: int, tokens: int) -> int:
        wave = Wave(
            run_seed=0,
            step=0,
            group_index=0,
            slots=tuple(range(rows)),
            prompt_ids=tuple(range(1000, 1000 + arguments.prompt)),
            max_new_tokens=tokens,
        )
        return sum(len(response.token_ids) for response in policy.sample(wave))

    return sampled


def _theirs(arguments: argparse.Namespace) -> Sampled:
    import torch
    from transformers import AutoModelForCausalLM

    from eurekaflow.models.fingerprint import bf16_is_fast

    dtype = torch.bfloat16 if bf16_is_fast() else torch.float32
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=dtype).eval()
    prompt = torch.tensor([range(1000, 1000 + arguments.prompt)])

    @torch.no_grad()
    def sampled(rows: int, tokens: int) -> int:
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            top_k=0,
            top_p=1.0,
            num_return_sequences=rows,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            pad_token_id=0,
        )
        return rows * int(out.shape[1] - arguments.prompt)

    return sampled


if __name__ == "__main__":
    main()
