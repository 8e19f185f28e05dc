"""What a run will cost, before anything is spent: `eureka run --dry-run`.

Attempts times mean lengths at the configured prices, as the paper's cost basis counts them:
every attempt pays its prompt and its response, training pays both, and the KL to the base model
one more reading of both. Verification is the worst case, every candidate using all its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eurekaflow.flows.configure import UNBOUNDED_STEPS
from eurekaflow.flows.diagnosis import amount
from eurekaflow.models.settings import RunConfig


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Amounts of a whole run; None where nothing can be said before it was measured."""

    steps: int
    attempts: int
    tokens_in: int
    tokens_out: int
    tokens_trained: int
    base_tokens_in: int  # of the KL's base pass, on top of tokens_in
    money_tokens: float  # without the base pass
    money_base: float
    verify_cpu_hours: float  # worst case
    money_verify: float  # worst case
    gpu_hours: None = None  # measured as the run goes
    measured_lengths: bool  # mean_prompt and mean_response are set; otherwise upper bounds

    @property
    def money(self) -> float:
        """Tokens of policy and base, verification not included."""
        return self.money_tokens + self.money_base


def forecast(config: RunConfig, *, cpus: int = 1, cpu_s: float | None = None) -> Forecast:
    """The forecast of a run; a candidate may use `cpu_s` seconds on each of `cpus` CPUs."""
    attempts = config.steps * config.groups * config.group_size
    prompt = config.mean_prompt or max(config.window - config.max_new_tokens - 50, 1)
    response = config.mean_response or config.max_new_tokens
    read, sampled = attempts * prompt, attempts * response
    trains = config.advantage != "none"
    trained = read + sampled if trains else 0
    base = trained if config.kl else 0
    hours = attempts * cpus * (config.budget_s if cpu_s is None else cpu_s) / 3600
    prices = (config.price_input, config.price_output, config.price_trained)
    tokens = sum(n * p for n, p in zip((read, sampled, trained), prices, strict=True)) / 1e6
    return Forecast(
        steps=config.steps,
        attempts=attempts,
        tokens_in=read,
        tokens_out=sampled,
        tokens_trained=trained,
        base_tokens_in=base,
        money_tokens=tokens,
        money_base=base * config.price_input / 1e6,
        verify_cpu_hours=hours,
        money_verify=hours * config.price_cpu_hour,
        measured_lengths=config.mean_prompt is not None and config.mean_response is not None,
    )


def sentences(config: RunConfig, found: Forecast) -> list[str]:
    """The forecast for people."""
    bound = "about" if found.measured_lengths else "at most"
    if config.steps >= UNBOUNDED_STEPS:
        return ["forecast: no bound on the steps; the other bounds of the run decide"]
    lines = [
        f"forecast: {found.steps} steps, {found.attempts:,} attempts; {bound} "
        f"{found.tokens_in:,} tokens in, {found.tokens_out:,} out, {found.tokens_trained:,} "
        f"trained, {found.base_tokens_in:,} in for the KL",
        f"verification: at most {found.verify_cpu_hours:,.1f} CPU hours; GPU hours are measured "
        "as it goes",
    ]
    if found.money or found.money_verify:
        kl = f", or {found.money:,.0f} with the KL pass" if found.money_base else ""
        lines.append(
            f"money: {bound} {found.money_tokens:,.0f}{kl}; verification at most "
            f"{found.money_verify:,.0f} more"
        )
    else:
        lines.append("money: no price is set (price_input … price_gpu_hour)")
    lines += _budgets(config, found)
    return lines


def _budgets(config: RunConfig, found: Forecast) -> list[str]:
    """Which budgets the forecast would pass."""
    tokens = found.tokens_in + found.tokens_out + found.tokens_trained + found.base_tokens_in
    needs: dict[str, tuple[Any, float]] = {
        "attempts": (config.max_attempts, found.attempts),
        "tokens": (config.max_tokens, tokens),
        "cpu_hours": (config.max_cpu_hours, found.verify_cpu_hours),
        "money": (config.max_money, found.money + found.money_verify),
    }
    return [
        f"budget: max_{kind} = {amount(kind, limit)} ends it before the last step"
        for kind, (limit, need) in needs.items()
        if limit is not None and need > limit
    ]
