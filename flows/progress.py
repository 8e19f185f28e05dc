"""What a person sees while a run works: a live table on a terminal, else one line per step.

Both are listeners of a run's events and write to stderr only. A metric that a step does not have
is left out, so the display never decides what a step must report.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any, Protocol

from eurekaflow.flows.rendering import duration, printable

if TYPE_CHECKING:
    from eurekaflow.tasks.session import Event

STAGES = ("plan", "sample", "verify", "archive", "update", "checkpoint")
SHOWN_STEPS = 15  # the newest rows of the live table


class Display(Protocol):
    """A listener that can be closed and remembers which run it watched."""

    run: str

    def __call__(self, event: Event) -> None: ...

    def close(self) -> None: ...


def display(stream: IO[str] | None = None) -> Display:
    """The live table when `stream` (stderr) is a terminal, else plain lines."""
    out = sys.stderr if stream is None else stream
    return LiveTable() if out.isatty() else Lines(out)


class Lines:
    """One line when the run starts, one per finished step, one per note."""

    def __init__(self, stream: IO[str]) -> None:
        self.run = ""
        self._stream = stream

    def __call__(self, event: Event) -> None:
        if event.kind == "run":
            self.run = str(event.metrics.get("run", ""))
            self._say(opening(event.metrics))
        elif event.kind == "step":
            self._say(step_line(event))
        elif event.kind == "note":
            self._say(f"note: {printable(str(event.metrics.get('text', '')))}")

    def close(self) -> None:
        self._stream.flush()

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class LiveTable:
    """The newest steps in a table, the stage at work under it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self.run = ""
        self._rows: list[tuple[int, dict[str, str]]] = []
        self._now = "starting"
        self._began = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            get_renderable=self._picture, console=self._console, refresh_per_second=4
        )
        self._live.start()

    def __call__(self, event: Event) -> None:
        if event.kind == "run":
            self.run = str(event.metrics.get("run", ""))
            self._console.print(opening(event.metrics), markup=False)
        elif event.kind == "step":
            self._rows.append((event.step, step_cells(event.metrics)))
            self._now = f"step {event.step} done"
        elif event.kind == "note":
            line = f"note: {printable(str(event.metrics.get('text', '')))}"
            self._console.print(line, markup=False)
        else:
            self._now = at_work(event)

    def close(self) -> None:
        self._now = ""
        self._live.stop()

    def _picture(self) -> Any:
        from rich import box
        from rich.console import Group
        from rich.markup import escape
        from rich.spinner import Spinner
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD)
        shown = self._rows[-SHOWN_STEPS:]
        names = list(dict.fromkeys(name for _, cells in shown for name in cells))
        for name in ("step", *names):
            table.add_column(name, justify="right")
        for step, cells in shown:
            table.add_row(str(step), *(escape(cells.get(name, "")) for name in names))
        if not self._now:
            return table if shown else ""
        line = f"{self._now}  {duration(time.monotonic() - self._began)}"
        spinner = Spinner("dots", text=escape(line))
        return Group(table, spinner) if shown else spinner


def opening(metrics: Mapping[str, Any]) -> str:
    """The first line of a run: its id, so that it can be resumed whatever happens."""
    return f"run {metrics.get('run', '')}  problem {metrics.get('problem', '')}"


def at_work(event: Event) -> str:
    """What is being done: step, stage and how far."""
    where = f"step {event.step}  {event.stage}" if event.step >= 0 else event.stage
    return f"{where}  {event.done}/{event.total}" if event.total else where


def step_line(event: Event) -> str:
    """A finished step on one line, its time by stage at the end."""
    cells = step_cells(event.metrics).items()
    line = "  ".join(f"{name} {cell}" for name, cell in cells)
    return f"step {event.step:>3}  {line}{_by_stage(event.metrics)}"


def step_cells(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The cells of a finished step, in order, those it has."""
    fraction = metrics.get("valid_fraction")
    cells = {
        "best": _number(metrics.get("best_score"), digits=7),
        "to record": _number(metrics.get("record_gap"), digits=3),
        "valid": f"{100 * fraction:.0f} %" if isinstance(fraction, int | float) else "",
        "distinct": _number(metrics.get("distinct"), digits=4),
        "reward": _number(metrics.get("mean_reward"), digits=3),
        "beta": _number(metrics.get("beta"), digits=3),
        "kl": _number(metrics.get("kl"), digits=2),
        "time": _seconds(metrics),
    }
    return {name: cell for name, cell in cells.items() if cell}


def _number(value: object, *, digits: int) -> str:
    return f"{float(value):.{digits}g}" if isinstance(value, int | float | Decimal) else ""


def _seconds(metrics: Mapping[str, Any]) -> str:
    seconds = metrics.get("seconds")
    if isinstance(seconds, Mapping):
        return duration(sum(value for value in seconds.values() if value))
    return duration(seconds) if isinstance(seconds, int | float) else ""


def _by_stage(metrics: Mapping[str, Any]) -> str:
    seconds = metrics.get("seconds")
    if not isinstance(seconds, Mapping):
        return ""
    parts = [f"{stage} {value:.1f}" for stage, value in seconds.items() if value and value >= 0.05]
    return f" ({', '.join(parts)})" if parts else ""
