"""The picture of an AHC039 answer: fish as dots, the polygon as an outline, in one SVG."""

from __future__ import annotations

from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.int64]

SIDE = 100_000
MACKEREL, SARDINE, NET = "#2563eb", "#f97316", "#111827"


def draw(fish: Points, polygon: Points | None, *, caption: str) -> str:
    """An SVG of the square with y upwards; the first half of `fish` are mackerels."""
    half = len(fish) // 2
    shapes = [_dots(fish[half:], SARDINE), _dots(fish[:half], MACKEREL)]
    if polygon is not None:
        corners = " ".join(f"{x},{SIDE - y}" for x, y in polygon.tolist())
        shapes.append(
            f'<polygon points="{corners}" fill="{MACKEREL}" fill-opacity="0.12" '
            f'stroke="{NET}" stroke-width="300"/>'
        )
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" width="800" '
        f'height="800">\n<title>{escape(caption)}</title>\n'
        f'<rect width="{SIDE}" height="{SIDE}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _dots(points: Points, colour: str) -> str:
    """One path of many round dots: far smaller than as many circles."""
    moves = "".join(f"M{x} {SIDE - y}h0" for x, y in points.tolist())
    return f'<path d="{moves}" stroke="{colour}" stroke-width="350" stroke-linecap="round"/>'
