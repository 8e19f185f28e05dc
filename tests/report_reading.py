"""A report as a reader sees it: what its documented questions answer, and what its charts show."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from eurekaflow.flows.rendering import records
from eurekaflow.models.questions import ask

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/report.md"
QUESTION = re.compile(r"^## ([^\n]+)\n[^`]+```sql\n(.*?)\n```", re.MULTILINE | re.DOTALL)
SECTION = re.compile(r'<section id="([^"]+)">(.*?)</section>', re.DOTALL)
FIGURE = re.compile(r"<figure>(?:<figcaption>(.*?)</figcaption>)?(<svg.*?</svg>)", re.DOTALL)
NUMBER = re.compile(r"-?[0-9.]+(e[+-]?[0-9]+)?")
Row = dict[str, Any]


def documented() -> dict[str, str]:
    """SQL by title, as docs/report.md prints it."""
    return dict(QUESTION.findall(DOCUMENT.read_text(encoding="utf-8")))


def asked(url: str, run: str) -> dict[str, list[Row]]:
    """What the documented questions answer, asked by themselves."""
    return {title: records(*ask(url, sql, run=run)) for title, sql in documented().items()}


def figures(html: str, section: str) -> list[tuple[str, str]]:
    """Caption and SVG of every chart in a section of the page."""
    inside = dict(SECTION.findall(html))[section]
    return [(unescape(caption), svg) for caption, svg in FIGURE.findall(inside)]


@dataclass(frozen=True)
class Axis:
    """Where values lie, by the labels of the axis."""

    labels: tuple[tuple[float, float], ...]  # (place, value)

    def at(self, value: float) -> float:
        """The place of a value between and beyond the labels."""
        (low, first), *_, (high, last) = self.labels
        return low + (value - first) * (high - low) / (last - first)


class Plot:
    """A chart's axes, bars, curves and levels, in user units."""

    def __init__(self, svg: str) -> None:
        self.root = ET.fromstring(svg)
        self.height = float(self.root.attrib["viewBox"].split()[3])
        self.x = Axis(tuple(self._labels("middle", "x")))
        self.y = Axis(tuple((place - 4, value) for place, value in self._labels("end", "y")))

    def _labels(self, anchor: str, side: str) -> Iterator[tuple[float, float]]:
        for text in self.root.iter("text"):
            words = text.text or ""
            if text.get("text-anchor") == anchor and NUMBER.fullmatch(words):
                yield float(text.attrib[side]), float(words)

    def bars(self) -> list[tuple[float, float, float]]:
        """(left, right, top) of every bar, with the gap of one unit to the next."""
        found = [r.attrib for r in self.root.iter("rect") if r.get("class") == "bar"]
        return [
            (float(r["x"]), float(r["x"]) + float(r["width"]) + 1, float(r["y"])) for r in found
        ]

    def dots(self, series: int = 0) -> list[tuple[float, float]]:
        """The points of a series; the larger dot of the legend is none."""
        found = [c.attrib for c in self.root.iter("circle") if c.get("class") == f"s{series}"]
        return [(float(c["cx"]), float(c["cy"])) for c in found if c["r"] != "4"]

    def outline(self) -> list[tuple[float, float]]:
        """(top, right) of every bin under the outline of another distribution."""
        [path] = [p for p in self.root.iter("path") if p.get("class") == "line s1"]
        found = re.findall(r"V([0-9.]+)H([0-9.]+)", path.attrib["d"])
        return [(float(top), float(right)) for top, right in found]

    def levels(self, direction: str) -> dict[str, float]:
        """Place of every level by its name, of upright lines (x) or of lying ones (y)."""
        parts = list(self.root)
        places = [n for n, part in enumerate(parts) if part.get("class") == "level"]
        after = parts[places[0] :] if places else []  # names follow in the order of their lines
        names = [part.text or "" for part in after if part.tag.endswith("text")]
        found: dict[str, float] = {}
        for place, name in zip(places, names, strict=False):
            x, y = re.findall(r"[0-9.]+", parts[place].attrib["d"])[:2]
            found[name] = float(x if direction == "x" else y)
        return found
