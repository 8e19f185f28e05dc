"""A run's report as markdown. What candidates, models and files wrote is text there as well.

Markdown viewers load pictures, follow links and pass on HTML, so every character that could begin
any of these is escaped, and programs stay in indented blocks. Pictures are data inside the text,
for viewers such as Prefect's page that reach no file of ours.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from eurekaflow.flows.trust import FOREIGN

if TYPE_CHECKING:
    from eurekaflow.flows.report_page import Report, Section

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_SPECIAL = re.compile(r"[\\`*_\[\]!|~#&<>]|(?<=:)/(?=/)")
# What the page's style sheet gives its charts; an image has to bring its own.
_STYLE = """<style>text{font:11px sans-serif;fill:#5b6675}.axis{stroke:#5b6675;fill:none}
.grid{stroke:#dfe2e6}.frame{fill:none;stroke:#5b6675}.level{stroke:#c2571a;stroke-dasharray:5 4}
.bar{fill:#1b6ca8}.line{fill:none;stroke-width:1.8}.disc{fill-opacity:.25}
circle.s0,.bar.s0{fill:#1b6ca8}circle.s1{fill:#c2571a}circle.s2{fill:#2f7d4f}circle.s3{fill:#7a4ea3}
path.s0,.disc.s0{stroke:#1b6ca8}path.s1,.disc.s1{stroke:#c2571a}path.s2,.disc.s2{stroke:#2f7d4f}
path.s3,.disc.s3{stroke:#7a4ea3}</style>"""


def plain(words: str) -> str:
    """Words as they are: nothing in them is markup, a link or a picture; one line."""
    one_line = " ".join(words.split())
    return _SPECIAL.sub(lambda m: _ENTITIES.get(m[0], "\\" + m[0]), one_line)


def markdown(report: Report, *, pictures: bool = False) -> str:
    """The report's numbers as text, its charts as data images where `pictures` are wanted."""
    head = f"run {report.run}, {plain(report.state)}, {plain(report.facts_line)}"
    lines = [f"# {plain(report.title)}", "", head, ""]
    lines += [f"**{FOREIGN}**", ""] if report.foreign else []
    lines += [f"- {plain(name)}: **{plain(value)}**" for name, value in report.facts]
    lines += ["", plain(report.diagnosis)] if report.diagnosis else []
    for section in report.sections:
        lines += ["", f"## {section.question.title}", "", section.question.shows, ""]
        lines += _charts(section) if pictures else _captions(section)
        lines += _table(section)
        for name, diff in section.diffs:
            lines += ["", f"{plain(name)}:", "", *(f"    {line}" for _, line in diff)]
    return "\n".join(lines) + "\n"


def image(svg: str) -> str:
    """A chart as the address of an image that is complete in itself."""
    return "data:image/svg+xml;base64," + base64.b64encode(standalone(svg).encode()).decode()


def standalone(svg: str) -> str:
    """A chart with the style that it has on the page, as a file of its own."""
    if "xmlns" in svg[: svg.find(">")]:
        return svg
    head, _, rest = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).partition(
        ">"
    )
    return f"{head}>{_STYLE}{rest}"


def _charts(section: Section) -> Iterator[str]:
    for caption, svg in section.charts:
        yield from (f"![{plain(caption or section.question.title)}]({image(svg)})", "")
        yield from (plain(caption), "") if caption else ()


def _captions(section: Section) -> Iterator[str]:
    """What stands under the charts that the text leaves out."""
    for caption, _ in section.charts:
        yield from (plain(caption), "") if caption else ()


def _table(section: Section) -> list[str]:
    if not section.rows:
        return ["Nothing."]
    lines = [_row(section.columns), "| " + " | ".join("---" for _ in section.columns) + " |"]
    return lines + [_row([cell.text for cell in row]) for row in section.rows]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(plain, cells)) + " |"
