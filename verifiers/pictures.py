"""Pictures of answers as SVG text: step functions, discs in a square. Numbers in, no text of
candidates; colours are classes of the page that shows them (`s0`, `s1` …, `axis`)."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
WIDTH, HEIGHT, EDGE = 720, 260, 28


def step_functions(named: Mapping[str, Array]) -> str:
    """Step functions (1-D, the heights of equal pieces) over each other; the last on top."""
    arrays = {name: _plain(heights, 1) for name, heights in named.items()}
    top = max(float(a.max()) for a in arrays.values())
    low = min(0.0, *(float(a.min()) for a in arrays.values()))
    span = (top - low) or 1.0
    parts = [f'<path class="axis" d="M{EDGE} {EDGE}V{HEIGHT - EDGE}H{WIDTH - EDGE}"/>']
    for index, (name, heights) in enumerate(arrays.items()):
        xs = np.linspace(EDGE, WIDTH - EDGE, len(heights) + 1)
        ys = HEIGHT - EDGE - (heights - low) / span * (HEIGHT - 2 * EDGE)
        path = "".join(
            f"L{a:.1f} {y:.1f}H{b:.1f}" for a, b, y in zip(xs, xs[1:], ys, strict=False)
        )
        parts.append(f'<path class="line s{index}" d="M{path[1:]}"/>')
        x = EDGE + 10 + 200 * index
        parts.append(f'<circle class="s{index}" cx="{x}" cy="12" r="4"/>')
        parts.append(f'<text x="{x + 8}" y="16">{escape(name)}</text>')
    parts.append(f'<text x="{EDGE - 4}" y="{EDGE + 4}" text-anchor="end">{top:.3g}</text>')
    parts.append(f'<text x="{EDGE - 4}" y="{HEIGHT - EDGE}" text-anchor="end">{low:.3g}</text>')
    return _svg(WIDTH, HEIGHT, "step functions", "".join(parts))


def discs(named: Mapping[str, Array]) -> str:
    """Discs (rows of x, y, r) in the unit square, one square per name, side by side."""
    side, gap = 300, 24
    sets = {name: _plain(rows, 2, columns=3) for name, rows in named.items()}
    parts = []
    for index, (name, found) in enumerate(sets.items()):
        left = gap + index * (side + gap)
        parts.append(f'<rect class="frame" x="{left}" y="8" width="{side}" height="{side}"/>')
        for x, y, r in found:
            cx, cy = left + x * side, 8 + (1 - y) * side
            parts.append(
                f'<circle class="disc s{index}" cx="{cx:.2f}" cy="{cy:.2f}" r="{r * side:.2f}"/>'
            )
        parts.append(f'<text x="{left}" y="{side + 24}">{escape(name)}</text>')
    width = gap + len(sets) * (side + gap)
    return _svg(width, side + 32, "packing", "".join(parts))


def _plain(values: Array, dimensions: int, *, columns: int | None = None) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"not a finite construction of {dimensions} dimensions: {array.shape}")
    if columns is not None and array.shape[1] != columns:
        raise ValueError(f"rows of {array.shape[1]} numbers instead of {columns}")
    return array


def _svg(width: int, height: int, title: str, inside: str) -> str:
    return (
        f'<svg class="picture" viewBox="0 0 {width} {height}" role="img" '
        f'style="max-width:{width}px" aria-label="{title}"><title>{title}</title>{inside}</svg>'
    )
