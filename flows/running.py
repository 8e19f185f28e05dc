"""The command `run`: resolve the configuration, follow the run, sum it up."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from eurekaflow.flows.data_options import Data, with_data
from eurekaflow.flows.options import Flag, Json
from eurekaflow.flows.trust import told
from eurekaflow.models.errors import EurekaError

if TYPE_CHECKING:
    from eurekaflow.flows.configure import Resolved, Surroundings
    from eurekaflow.flows.launch import Summary
    from eurekaflow.flows.progress import Display
    from eurekaflow.tasks.session import Listener

Advantage = Literal["entropic_adaptive", "entropic", "mean_baseline", "none"]
Reuse = Literal["puct", "greedy", "fixed"]
VERIFIER_CPUS = {"paper": 2}  # CPUs that a candidate of the paper's set-up may use


class Stopped(EurekaError):
    """The user ended the run; its state is saved."""

    def __init__(self, message: str, fix: str, *, exit_code: int) -> None:
        super().__init__(message, fix)
        self.exit_code = exit_code


def run(
    problem: str,
    /,
    *,
    preset: str | None = None,
    seed: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    model: str | None = None,
    groups: int | None = None,
    group_size: int | None = None,
    lr: float | None = None,
    advantage: Advantage | None = None,
    reuse: Reuse | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    config: Path | None = None,
    data: Data = None,
    dry_run: Flag = False,
    json: Json = False,
) -> int:
    """Discover: train on one problem until the budget ends.

    Parameters
    ----------
    problem
        Name of a problem (`eureka problems`), or the path of a problem file or folder.
    preset
        Sizes: auto, small-cpu, small-gpu or paper.
    seed
        Random seed of the run.
    steps
        Steps to run; given alone, no time limit applies.
    minutes
        End after the step that passes this many minutes; given alone, no step limit applies.
    model
        bundled, a GGUF file, a model folder, or a hub id.
    groups
        Parents per step.
    group_size
        Attempts per parent and step.
    lr
        Learning rate.
    advantage
        Estimator of advantages.
    reuse
        How parents are chosen.
    set_
        Any other setting as key=value; repeatable. `--dry-run` lists them all.
    config
        Configuration file instead of ./eureka.toml.
    dry_run
        Print the resolved configuration with its sources and start nothing.
    json
        Print the result as JSON on stdout.
    """
    from eurekaflow.flows.configure import resolve, surroundings
    from eurekaflow.flows.connection import require_server
    from eurekaflow.flows.scoring import canonical
    from eurekaflow.flows.setting_sources import parse_assignments

    flags: dict[str, object] = {
        "seed": seed,
        "steps": steps,
        "minutes": minutes,
        "model": model,
        "groups": groups,
        "group_size": group_size,
        "lr": lr,
        "advantage": advantage,
        "reuse": reuse,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    resolved = resolve(
        canonical(with_data(problem, data)),
        preset=preset,
        overrides=parse_assignments(set_ or [], given=given),
        config_file=config,
    )
    if dry_run:
        return print_configuration(resolved, surroundings(), as_json=json)
    here = surroundings()
    require_server(here)
    prepare_model(resolved.config.model, here.home)
    from eurekaflow.flows import launch

    return follow(
        lambda listener: launch.start(resolved.config, here, listener=listener), as_json=json
    )


def prepare_model(model: str, home: Path) -> None:
    """Fetch and convert the weights before a run exists, so that a wrong name leaves no run."""
    from eurekaflow.models.weights import resolve_model
    from eurekaflow.tasks.session import SCRIPTED, script

    if model.startswith(SCRIPTED):
        script(model)
        return
    resolve_model(model, home / "models", progress=lambda line: print(line, file=sys.stderr))


def follow(work: Callable[[Listener], Summary], *, as_json: bool) -> int:
    """Do `work` with a display on stderr; sum up on stderr, or as JSON on stdout.

    Raises Stopped with the command that resumes when the user ends it.
    """
    from eurekaflow.flows.configure import quiet_prefect, spin_briefly_when_busy
    from eurekaflow.flows.progress import display

    quiet_prefect()
    spin_briefly_when_busy()
    shown = display()
    try:
        with contextlib.closing(shown):
            summary = work(shown)
    except KeyboardInterrupt as stop:
        raise stopped(shown, stop) from None
    if as_json:
        from eurekaflow.flows.rendering import print_json

        print_json(asdict(summary))
    else:
        print(summary_text(summary), file=sys.stderr)
    return 130 if summary.ended_by == "cancelled" else 0


def stopped(shown: Display, stop: KeyboardInterrupt) -> Stopped:
    """How a run that was interrupted or terminated ends."""
    from eurekaflow.flows.cli import ending

    code, message, _ = ending(stop)
    if not shown.run:
        return Stopped(f"{message.split(';')[0]} before a run began", "", exit_code=code)
    return Stopped(f"{message.split(';')[0]}; saved", f"eureka resume {shown.run}", exit_code=code)


def summary_text(summary: Summary) -> str:
    """The end of a run in words: best score, record and gap, gain over the seed, what to ask."""
    from eurekaflow.flows.rendering import duration, number

    lines = [
        f"run {summary.run} {summary.state}: {summary.steps} steps, {summary.valid} of "
        f"{summary.attempts} attempts valid, {duration(summary.seconds)}"
    ]
    if summary.ended_by:
        lines.append(f"ended by the rule {summary.ended_by}: {summary.message}")
    if summary.best is not None:
        lines.append(f"best {summary.metric} {number(summary.best)}{_against_seed(summary)}")
        lines.append(_against_record(summary))
        lines.append(told(summary.trust) or "")
    short = summary.run[:8]
    lines.append(f"look further: eureka best {short}, eureka show {short}, eureka tree {short}")
    return "\n".join(line for line in lines if line)


def _gain(summary: Summary, score: float, other: float) -> float:
    """By how much `score` is better than `other`, in the metric's unit."""
    return other - score if summary.direction == "min" else score - other


def _against_seed(summary: Summary) -> str:
    from eurekaflow.flows.rendering import number

    if summary.best is None or summary.seed is None:
        return ""
    gain = _gain(summary, summary.best, summary.seed)
    if gain <= 0:
        return f", no better than the best seed's {number(summary.seed)}"
    return f", {number(gain)} better than the best seed's {number(summary.seed)}"


def _against_record(summary: Summary) -> str:
    from eurekaflow.flows.rendering import number

    if summary.best is None or summary.record is None:
        return ""
    gain = _gain(summary, summary.best, summary.record)
    name = f"record {number(summary.record)} ({summary.record_holder})"
    if gain > 0:
        check = f"eureka best {summary.run[:8]} --recheck"
        return f"{name}: beaten by {number(gain)}; recheck it: {check}"
    return f"{name}: {number(-gain)} away" if gain else f"{name}: equalled"


def print_configuration(resolved: Resolved, here: Surroundings, *, as_json: bool) -> int:
    """Settings with their sources and the expected cost on stdout; the memory on stderr."""
    from eurekaflow.flows.forecast import forecast, known_pace, sentences
    from eurekaflow.flows.memory_forecast import of_run
    from eurekaflow.flows.rendering import print_json, print_table

    config = resolved.config
    expected = forecast(
        config, cpus=VERIFIER_CPUS.get(config.preset, 1), measured=known_pace(here, config)
    )
    if as_json:
        settings = {n: {"value": v, "source": s} for n, v, s in resolved.rows()}
        print_json({**settings, "forecast": {**asdict(expected), "money": expected.money}})
    else:
        rows = [(n, str(v), s) for n, v, s in resolved.rows()]
        print_table(("setting", "value", "source"), rows)
        print("\n".join(sentences(config, expected)))
    memory = of_run(config, here)
    print(f"memory: {memory.message}", *filter(None, [memory.fix]), sep="; ", file=sys.stderr)
    return 0
