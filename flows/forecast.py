"""What a run will cost, before anything is spent: `eureka run --dry-run`.

Attempts times mean lengths at the configured prices, as the paper's cost basis counts them:
every attempt pays its prompt and its response, training pays both, and the KL to the base model
one more reading of both. Verification is the worst case, every candidate using all its time; time
and GPU hours are those of the newest run with the same sizes, unknown without one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from eurekaflow.flows.configure import UNBOUNDED_STEPS
from eurekaflow.flows.diagnosis import amount
from eurekaflow.flows.rendering import duration
from eurekaflow.models.errors import EurekaError
from eurekaflow.models.settings import RunConfig
from eurekaflow.models.spending import Spent

if TYPE_CHECKING:
    from eurekaflow.flows.configure import Surroundings

# Runs that agree in these take about as long for a step, on one machine.
LIKE = {"problem", "preset", "model", "groups", "group_size", "max_new_tokens", "sandbox"}


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
    seconds: float | None  # of all stages; these three at the pace of a measured run, if any
    cpu_hours: float | None
    gpu_hours: float | None
    pace_of: str  # that run, and its steps
    measured_lengths: bool  # mean_prompt and mean_response are set; otherwise upper bounds

    @property
    def money(self) -> float:
        """Tokens of policy and base, verification not included."""
        return self.money_tokens + self.money_base


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What a step of a run took on average."""

    run: UUID
    steps: int
    seconds: float
    cpu_s: float
    gpu_s: float


def pace(url: str, config: RunConfig) -> Pace | None:
    """The pace of the newest measured run with the same problem, model and sizes."""
    from eurekaflow.models.questions import PACE, ask

    settings = json.dumps(config.model_dump(mode="json", include=LIKE))
    names, found = ask(url, PACE, settings=settings)
    return Pace(**dict(zip(names, found[0], strict=True))) if found else None


def known_pace(here: Surroundings, config: RunConfig) -> Pace | None:
    """As `pace`, where there is an archive already."""
    from eurekaflow.flows.connection import existing_archive

    try:
        with existing_archive(here) as url:
            return pace(url, config)
    except EurekaError:
        return None


def one_step(config: RunConfig, measured: Pace | None) -> Spent:
    """What the first step is expected to cost: nothing where that is not known."""
    found = forecast(config.model_copy(update={"steps": 1}), measured=measured)
    cpu_s, gpu_s = (measured.cpu_s, measured.gpu_s) if measured else (0.0, 0.0)
    hours = (cpu_s * config.price_cpu_hour + gpu_s * config.price_gpu_hour) / 3600
    if not found.measured_lengths:
        return Spent(cpu_s=cpu_s, gpu_s=gpu_s, money=hours)
    return Spent(
        tokens_in=found.tokens_in + found.base_tokens_in,
        tokens_out=found.tokens_out,
        tokens_trained=found.tokens_trained,
        cpu_s=cpu_s,
        gpu_s=gpu_s,
        money=found.money + hours,
    )


def forecast(
    config: RunConfig,
    *,
    cpus: int = 1,
    cpu_s: float | None = None,
    measured: Pace | None = None,
) -> Forecast:
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
        seconds=config.steps * measured.seconds if measured else None,
        cpu_hours=config.steps * measured.cpu_s / 3600 if measured else None,
        gpu_hours=config.steps * measured.gpu_s / 3600 if measured else None,
        pace_of=f"{str(measured.run)[:8]}, {measured.steps} steps" if measured else "",
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
        f"verification: at most {found.verify_cpu_hours:,.1f} CPU hours",
        _time(found),
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


def _time(found: Forecast) -> str:
    """Seconds and hours of the machine, or that nothing can be said of them yet."""
    if found.seconds is None or found.cpu_hours is None or found.gpu_hours is None:
        return "time, CPU and GPU hours in all: unknown, no run like it was measured here yet"
    return (
        f"time: about {duration(found.seconds)}, {amount('cpu_hours', found.cpu_hours)} CPU and "
        f"{amount('gpu_hours', found.gpu_hours)} GPU hours, at the pace of run {found.pace_of}"
    )


def _budgets(config: RunConfig, found: Forecast) -> list[str]:
    """Which budgets the forecast would pass."""
    tokens = found.tokens_in + found.tokens_out + found.tokens_trained + found.base_tokens_in
    needs: dict[str, tuple[Any, float]] = {
        "attempts": (config.max_attempts, found.attempts),
        "tokens": (config.max_tokens, tokens),
        "cpu_hours": (
            config.max_cpu_hours,
            found.verify_cpu_hours if found.cpu_hours is None else found.cpu_hours,
        ),
        "gpu_hours": (config.max_gpu_hours, found.gpu_hours or 0.0),
        "money": (config.max_money, found.money + found.money_verify),
    }
    return [
        f"budget: max_{kind} = {amount(kind, limit)} ends it before the last step"
        for kind, (limit, need) in needs.items()
        if limit is not None and need > limit
    ]
