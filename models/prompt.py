"""The prompt: one template that turns plain strings and numbers into a `Prompt`.

Order of the message: the task; the parent's program; where the parent stands and what is wanted;
the tail of its output; its construction; the rules. The brief form says the same in a few lines
for small models and lets the opening carry the rules. Which words mean "better" follows the
problem's direction. This module knows nothing of problems: callers fill in `PromptParts`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from eurekaflow.models.policy import Prompt

TEMPLATE_VERSION = "1"

_STDOUT_CHARACTERS = 500
_CUT = "[earlier output cut]\n"
_PROGRAM_LINES = (200, 50, 10)  # what shrinking keeps of the parent's program, step by step
_FENCES = {"python": "python", "cpp": "cpp", "json": "json", "text": "text"}
_LANGUAGES = {"python": "Python", "cpp": "C++20", "json": "JSON", "text": "plain text"}


@dataclass(frozen=True, kw_only=True)
class PromptParts:
    """What a prompt is made of. Scores are the metric as printed, not values."""

    statement: str
    direction: Literal["min", "max"]
    metric: str
    language: str = "python"  # answer kind: python, cpp, json, text
    entry_point: str = ""  # function that the program must define
    parent_program: str = ""  # "" = none
    parent_score: float | None = None
    grandparent_score: float | None = None  # of the parent's own parent
    target: float | None = None
    stdout_tail: str = ""  # of the parent
    state_note: str = ""  # where the parent's construction can be found
    budget_s: float | None = None  # seconds a candidate is told it has
    libraries: str = "the standard library, numpy and scipy"
    rules: str = ""  # further rules of the problem, one paragraph
    opening: str = ""  # prefilled start of the answer
    brief: bool = False


def state_note(name: str, size: int) -> str:
    """Says that the parent's construction of `size` numbers is the global `name`."""
    return f"The parent's construction ({size} values) is the global float64 array `{name}`."


def render(parts: PromptParts) -> Prompt:
    """The user message and the opening; equal parts give equal prompts."""
    sections = _brief(parts) if parts.brief else _full(parts)
    return Prompt(text="\n\n".join(s for s in sections if s), opening=parts.opening)


def shrink(parts: PromptParts, level: int) -> PromptParts | None:
    """`parts` without its `level` least important sections; None when nothing more can go.

    The fixed order: 1 the output's tail, 2 the value history, 3 and on ever fewer lines of the
    parent's program, the cut marked. Level 0 is `parts`.
    """
    if level <= 0:
        return parts
    parts = replace(parts, stdout_tail="")
    if level == 1:
        return parts
    parts = replace(parts, grandparent_score=None)
    if level == 2:
        return parts
    if level - 3 >= len(_PROGRAM_LINES):
        return None
    kept = _PROGRAM_LINES[level - 3]
    return replace(parts, parent_program=_first_lines(parts.parent_program, kept))


def _first_lines(program: str, count: int) -> str:
    lines = program.splitlines()
    if len(lines) <= count:
        return program
    return "\n".join([*lines[:count], f"# [{len(lines) - count} more lines cut]"])


def _full(parts: PromptParts) -> list[str]:
    return [
        parts.statement.strip(),
        _program(parts, "The program to start from:"),
        _context(parts),
        _output(parts.stdout_tail),
        parts.state_note,
        _rules(parts),
    ]


def _brief(parts: PromptParts) -> list[str]:
    return [parts.statement.strip(), _program(parts, _brief_score(parts)), parts.rules]


def _program(parts: PromptParts, heading: str) -> str:
    if not parts.parent_program.strip():
        return heading if parts.brief else ""
    fence = "```"
    while f"\n{fence}" in f"\n{parts.parent_program}":
        fence += "`"
    tag = _FENCES[parts.language]
    return f"{heading}\n{fence}{tag}\n{parts.parent_program.strip()}\n{fence}"


def _brief_score(parts: PromptParts) -> str:
    better = "lower" if parts.direction == "min" else "higher"
    if parts.parent_score is None:
        return f"Aim for a {better} {parts.metric}."
    metric = parts.metric[:1].upper() + parts.metric[1:]
    return f"{metric} is now {_show(parts.parent_score)}; change this to make it {better}:"


def _context(parts: PromptParts) -> str:
    minimise = parts.direction == "min"
    better = "lower" if minimise else "higher"
    lines = [f"{'Minimise' if minimise else 'Maximise'} the {parts.metric}: {better} is better."]
    if parts.parent_score is not None and parts.grandparent_score is not None:
        moved = f"{_show(parts.grandparent_score)} -> {_show(parts.parent_score)}"
        lines.append(f"The last change moved it: {moved}.")
    elif parts.parent_score is not None:
        lines.append(f"It is now {_show(parts.parent_score)}.")
    if parts.target is not None:
        lines.append(f"The target is {_show(parts.target)}{_gap(parts, minimise)}.")
    return "\n".join(lines)


def _gap(parts: PromptParts, minimise: bool) -> str:
    if parts.parent_score is None or parts.target is None:
        return ""
    gap = (parts.parent_score - parts.target) * (1 if minimise else -1)
    return f", {_show(gap)} away" if gap > 0 else ", already reached: go beyond it"


def _output(tail: str) -> str:
    if not tail.strip():
        return ""
    if len(tail) > _STDOUT_CHARACTERS + len(_CUT):
        tail = _CUT + tail[-_STDOUT_CHARACTERS:]
    return f"The end of its output:\n{tail.strip()}"


def _rules(parts: PromptParts) -> str:
    tag, language = _FENCES[parts.language], _LANGUAGES[parts.language]
    lines = [f"Answer with one complete {language} program in a ```{tag} block."]
    if parts.language in ("json", "text"):
        lines = [f"Answer with one complete solution in a ```{tag} block."]
    if parts.entry_point:
        lines.append(f"It must define `{parts.entry_point}`; the last such block counts.")
    if parts.budget_s is not None:
        lines.append(
            f"You have {parts.budget_s:g} seconds on one CPU core; "
            f"it is stopped soon after {1.1 * parts.budget_s:g} seconds and then counts as failed."
        )
    if parts.language == "python":
        lines.append(f"Use {parts.libraries}; no network, files or further processes.")
    lines.append(
        "You may improve the program above or try an entirely different algorithm. "
        "An answer that does not improve on the best known earns nothing."
    )
    return "Rules\n" + "\n".join(f"- {line}" for line in lines) + _paragraph(parts.rules)


def _paragraph(text: str) -> str:
    return f"\n\n{text.strip()}" if text.strip() else ""


def _show(score: float) -> str:
    return f"{score:.6f}" if math.isfinite(score) and abs(score) < 1e6 else f"{score:.6g}"
