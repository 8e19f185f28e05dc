"""Numbers, durations and sizes as people read them; JSON that every parser reads."""

from __future__ import annotations

import datetime
import io
import math

import pytest

from eurekaflow.flows import rendering
from eurekaflow.flows.progress import Lines
from eurekaflow.tasks.session import Event


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.3808761, "0.3808761"), (1.0, "1"), (12345.678, "12,345.68"), (3e-6, "3.000e-06")],
)
def test_numbers_keep_seven_digits(value: float, shown: str) -> None:
    assert rendering.number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.42, "0.4 s"), (12.4, "12 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (None, "")],
)
def test_durations_read_as_people_say_them(seconds: float | None, shown: str) -> None:
    assert rendering.duration(seconds) == shown


@pytest.mark.parametrize(("count", "shown"), [(12, "12 B"), (491_400_064, "491.4 MB")])
def test_sizes_are_in_decimal_units(count: int, shown: str) -> None:
    assert rendering.size(count) == shown


def test_json_has_no_nan_and_keeps_time_zones() -> None:
    when = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    found = rendering.plain({"a": math.nan, "b": (1, math.inf), "c": when})
    assert found == {"a": None, "b": [1, None], "c": "2026-01-02T00:00:00+00:00"}


def test_markup_in_cells_is_printed_not_interpreted(capsys: pytest.CaptureFixture[str]) -> None:
    rendering.print_table(("a",), [("[red]x[/red]\x1b[2J",)])
    printed = capsys.readouterr().out
    assert "[red]x[/red]" in printed
    assert "\x1b[2J" not in printed


def test_lines_tell_the_run_first_then_one_line_a_step() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines(Event(kind="run", metrics={"run": "abc", "problem": "toy"}))
    lines(Event(kind="stage", step=0, stage="sample"))
    lines(Event(kind="progress", step=0, stage="sample", done=1, total=9))
    metrics = {"best_score": 0.5, "valid_fraction": 0.25, "kl": None, "seconds": {"plan": 2.0}}
    lines(Event(kind="step", step=0, metrics=metrics))
    told = stream.getvalue().splitlines()
    assert lines.run == "abc"
    assert told[0] == "run abc  problem toy"
    assert told[1:] == ["step   0  best 0.5  valid 25 %  time 2.0 s (plan 2.0)"]


def test_lines_show_no_control_characters_of_a_note() -> None:
    stream = io.StringIO()
    Lines(stream)(Event(kind="note", metrics={"text": "a\x1b[2Jb"}))
    assert "\x1b" not in stream.getvalue()
