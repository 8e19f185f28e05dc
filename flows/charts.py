"""Small charts as SVG text, for a report that opens without any network or script.

Colours are CSS classes of the page (`s0`, `s1` … for series, `level`, `axis`, `bar`), so a chart
follows its light or dark theme. Every label is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LEFT, RIGHT, TOP, BOTTOM = 62, 14, 16, 34  # room around the plot, in user units


@dataclass(frozen=True)
class Series:
    """Points (x, y) in order of x; drawn as a line, or as dots alone."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


@dataclass(frozen=True)
class Level:
    """A value to compare with: a dashed line and its name."""

    name: str
    at: float


@dataclass(frozen=True)
class _Frame:
    """The plot's area and the data ranges that fill it."""

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM)


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    levels: Sequence[Level] = (),
    width: int = 720,
    height: int = 280,
) -> str:
    """Lines over a common x axis, with named horizontal levels; "" when nothing is finite."""
    drawn = [Series(s.name, _finite(s.points), s.dots) for s in series]
    points = [point for s in drawn for point in s.points]
    if not points:
        return ""
    ys = [y for _, y in points] + [level.at for level in levels]
    frame = _Frame(width, height, _range([x for x, _ in points], 0.0), _range(ys, 0.05))
    parts = [_axes(frame, x_label, y_label)]
    parts += _levels(frame, levels)
    parts += [_curve(frame, s, i) for i, s in enumerate(drawn)]
    legend = _legend(frame, drawn) if len(drawn) > 1 else ""
    return _svg(width, height, f"{y_label} over {x_label}", "".join(parts) + legend)


def histogram(
    counts: Sequence[int],
    low: float,
    high: float,
    *,
    x_label: str,
    marks: Sequence[Level] = (),
    top: int | None = None,
    line: Sequence[float] = (),
    width: int = 340,
    height: int = 200,
) -> str:
    """Bars over equal bins from `low` to `high`, and over them another distribution's outline.

    `marks` are vertical lines, `top` the y range, `line` the other counts on the same bins.
    """
    edges = _range([low, high, *(m.at for m in marks)], 0.03)
    frame = _Frame(width, height, edges, (0.0, float(max(top or max(counts, default=0), 1))))
    parts = [_axes(frame, x_label, "attempts")]
    step = (high - low) / len(counts) if high > low else (edges[1] - edges[0]) / 40
    for place, count in enumerate(counts):
        if count:
            left, right = frame.x(low + place * step), frame.x(low + (place + 1) * step)
            y = frame.y(count)
            parts.append(
                f'<rect class="bar" x="{left:.1f}" y="{y:.1f}" '
                f'width="{max(right - left - 1, 1.5):.1f}" height="{frame.y(0) - y:.1f}"/>'
            )
    if line:
        parts.append(_outline(frame, line, low, step))
    parts += [_mark(frame, mark, row) for row, mark in enumerate(marks)]
    return _svg(width, height, f"attempts by {x_label}", "".join(parts))


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers between `low` and `high`; two at least, or there is no scale."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    found = [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]
    return found if len(found) > 1 else ticks(low, high, 2 * count)


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _range(values: Sequence[float], margin: float) -> tuple[float, float]:
    """The range of the values with a margin on both sides; never empty."""
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        spread = abs(low) * 0.05
        return (low - spread, high + spread) if spread else (0.0, 1.0)
    extra = margin * (high - low)
    return low - extra, high + extra


def _axes(frame: _Frame, x_label: str, y_label: str) -> str:
    bottom, right = frame.height - BOTTOM, frame.width - RIGHT
    parts = [f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>']
    for value in ticks(*frame.x_range, count=6 if frame.width > 500 else 3):
        parts.append(_text(frame.x(value), bottom + 14, _number(value), "middle"))
    for value in ticks(*frame.y_range, count=4):
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(_text(LEFT - 5, y + 4, _number(value), "end"))
    middle = (LEFT + right) / 2
    parts.append(_text(middle, frame.height - 4, x_label, "middle"))
    parts.append(
        f'<text transform="translate(11 {(TOP + bottom) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _curve(frame: _Frame, series: Series, index: int) -> str:
    places = [(frame.x(x), frame.y(y)) for x, y in series.points]
    dots = "".join(
        f'<circle class="s{index}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in places
    )
    if series.dots or len(places) == 1:
        return dots
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    return f'<path class="line s{index}" d="M{path}"/>' + (dots if len(places) <= 60 else "")


def _levels(frame: _Frame, levels: Sequence[Level]) -> list[str]:
    """Each name above its line and above those of lower ones, so that all stay readable.

    On the left, where a search that nears a level is still far from it.
    """
    lines, names, free = [], [], float(frame.height)
    for level in sorted(levels, key=lambda one: one.at):
        y, right = frame.y(level.at), frame.width - RIGHT
        free = min(y - 3, free - 13)
        lines.append(f'<path class="level" d="M{LEFT} {y:.1f}H{right}"/>')
        names.append(_text(LEFT + 5, free, level.name, "start"))
    return lines + names


def _outline(frame: _Frame, heights: Sequence[float], low: float, step: float) -> str:
    """The upper edge of bars that are not drawn."""
    parts = [f"M{frame.x(low):.1f} {frame.y(0):.1f}"]
    for place, height in enumerate(heights):
        parts.append(f"V{frame.y(height):.1f}H{frame.x(low + (place + 1) * step):.1f}")
    return f'<path class="line s1" d="{"".join(parts)}V{frame.y(0):.1f}"/>'


def _mark(frame: _Frame, mark: Level, row: int) -> str:
    """Each name in a row of its own, so that close ones stay readable."""
    x = frame.x(mark.at)
    line = f'<path class="level" d="M{x:.1f} {TOP}V{frame.height - BOTTOM}"/>'
    end = x > (LEFT + frame.width) / 2
    return line + _text(
        x - 3 if end else x + 3, TOP + 9 + 12 * row, mark.name, "end" if end else "start"
    )


def _legend(frame: _Frame, series: Sequence[Series]) -> str:
    parts: list[str] = []
    x, y = float(LEFT + 4), frame.height - 8
    for index, one in enumerate(series):
        parts.append(f'<circle class="s{index}" cx="{x:.0f}" cy="{y}" r="4"/>')
        parts.append(_text(x + 8, y + 4, one.name, "start"))
        x += 24 + 6.4 * len(one.name)
    return "".join(parts)


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(width: int, height: int, title: str, inside: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'style="max-width:{3 * width // 2}px" '  # a single small one does not fill the page
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>{inside}</svg>'
    )


def _number(value: float) -> str:
    return f"{value:.6g}" if value else "0"
