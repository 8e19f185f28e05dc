"""EVOLVE-BLOCK markers: which part of a program may change, and putting a new part in its place.

A line that holds `EVOLVE-BLOCK-START` opens a block and one that holds `EVOLVE-BLOCK-END` closes
it, whatever comment sign stands before. A program with one block is asked for by that block alone;
what stands around it is kept from the initial program, however the answer changed it.
"""

from __future__ import annotations

import re

_BLOCK = re.compile(
    r"^(?P<start>[^\n]*EVOLVE-BLOCK-START[^\n]*\n)(?P<body>.*?)(?P<end>^[^\n]*EVOLVE-BLOCK-END)",
    re.DOTALL | re.MULTILINE,
)
PLACE = "# (the block to be rewritten)\n"


def blocks(program: str) -> list[str]:
    """What stands between the markers, in order."""
    return [found["body"] for found in _BLOCK.finditer(program)]


def excerpt(program: str) -> str:
    """The block of a program that has exactly one, else the whole program."""
    found = blocks(program)
    return found[0] if len(found) == 1 else program


def frame(program: str) -> str:
    """A program with one block without that block's content; "" when nothing stands around it."""
    if len(blocks(program)) != 1:
        return ""
    around = _BLOCK.sub("", program, count=1).strip()
    if not around:
        return ""
    return _BLOCK.sub(lambda found: found["start"] + PLACE + found["end"], program)


def complete(initial: str, answer: str) -> str:
    """The whole program that `answer` stands for.

    An answer with as many blocks as the initial program gives their contents; one without markers
    is the content of the only block. With other numbers of blocks the answer is the program.
    """
    wanted, given = blocks(initial), blocks(answer)
    if len(wanted) == 1 and not given:
        given = [answer]
    if not wanted or len(wanted) != len(given):
        return answer
    contents = iter(given)
    return _BLOCK.sub(lambda f: f["start"] + _ended(next(contents)) + f["end"], initial)


def _ended(body: str) -> str:
    return body if body.endswith("\n") else body + "\n"
