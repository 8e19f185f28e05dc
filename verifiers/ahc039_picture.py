"""The picture of an AHC039 answer: fish as dots, polygons as outlines, in one SVG."""

from __future__ import annotations

from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

Fish = npt.NDArray[np.int64]
Polygon = npt.NDArray[np.int64] | npt.NDArray[np.float64]

SIDE = 100_000
MACKEREL, SARDINE = "#2563eb", "#f97316"
NETS = ("#111827", "#16a34a", "#9333ea", "#dc2626")  # the last polygon is the dark one


def draw(fish: Fish, *polygons: Polygon, caption: str) -> str:
    """An SVG of the square with y upwards; the first half of `fish` are mackerels.

    Raises ValueError for what is no polygon of points in the square.
    """
    half = len(fish) // 2
    shapes = [_dots(fish[half:], SARDINE), _dots(fish[:half], MACKEREL)]
    for place, polygon in enumerate(polygons):
        shapes.append(_outline(polygon, NETS[(len(polygons) - 1 - place) % len(NETS)]))
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" width="800" '
        f'height="800" role="img" style="max-width:100%;height:auto">\n'
        f"<title>{escape(caption)}</title>\n"
        f'<rect width="{SIDE}" height="{SIDE}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _outline(polygon: Polygon, colour: str) -> str:
    if polygon.ndim != 2 or polygon.shape[1] != 2 or not (abs(polygon) <= SIDE).all():
        raise ValueError(f"not a polygon of points up to {SIDE}: {polygon.shape}")
    corners = " ".join(f"{x:.0f},{SIDE - y:.0f}" for x, y in polygon.tolist())
    return (
        f'<polygon points="{corners}" fill="{MACKEREL}" fill-opacity="0.12" '
        f'stroke="{colour}" stroke-width="300"/>'
    )


def _dots(points: Fish, colour: str) -> str:
    """One path of many round dots: far smaller than as many circles."""
    moves = "".join(f"M{x} {SIDE - y}h0" for x, y in points.tolist())
    return f'<path d="{moves}" stroke="{colour}" stroke-width="350" stroke-linecap="round"/>'
