"""The program in a response: the last fenced block whose tag is the problem's language.

Fences count at the start of a line only, so backticks inside a string do not end a program. A
block that is never closed runs to the end. When the answer was opened for the model, the opening
is put before the response, its fence included.
"""

from __future__ import annotations

import re

TAGS: dict[str, tuple[str, ...]] = {
    "python": ("python", "py", "python3"),
    "cpp": ("cpp", "c++", "cc"),
    "json": ("json",),
    "text": ("text", "txt", "plain", "sql", ""),
}

_OPEN = re.compile(r"^ {0,3}`{3,}[ \t]*(?P<tag>[^\s`]*)[^\n`]*$", re.MULTILINE)
_CLOSE = re.compile(r"^`{3,}(?P<tag>[\w+]*)", re.MULTILINE)


def extract(text: str, *, language: str, opening: str = "") -> str | None:
    """The last block of `language` in `opening + text`, or None when there is none or it is empty.

    Raises ValueError for a language without tags.
    """
    if language not in TAGS:
        raise ValueError(f"unknown answer language {language!r}; known: {', '.join(TAGS)}")
    found = None
    for tag, body in _blocks(opening + text):
        if tag.lower() in TAGS[language] and body.strip():
            found = body
    return found


def _blocks(text: str) -> list[tuple[str, str]]:
    """(tag, body) of every fenced block, in order."""
    blocks, position = [], 0
    text = text.replace("\r\n", "\n")
    while start := _OPEN.search(text, position):
        body_start = min(start.end() + 1, len(text))
        end = _CLOSE.search(text, body_start)
        blocks.append((start["tag"], text[body_start : end.start() if end else len(text)]))
        if end is None:
            break
        position = end.start() if end["tag"] else end.end()  # a tagged fence opens the next block
    return blocks
