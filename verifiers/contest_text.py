"""Reading what a contest program printed: whitespace-separated whole numbers, nothing lenient.

Stops: signs (a minus, also of zero, is out of every range here), fractions, exponents, digits of
other scripts, underscores, numbers of any length, bytes that are not text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from eurekaflow.verifiers.problem import InvalidAnswer

WHITESPACE = " \t\n\v\f\r"  # the ASCII part of what the judge skips; the rest makes a bad token
_NUMBER = re.compile(r"\+?0*([0-9]{1,18})", re.ASCII)
_SHOWN = 40  # characters of a bad token


class InvalidOutput(InvalidAnswer):
    """A contest program's output breaks a rule; the message is the judge's reason."""


def tokens(text: str) -> Iterator[str]:
    """The tokens of a text, one at a time: an output bomb is not held twice."""
    return (match[0] for match in re.finditer(f"[^{WHITESPACE}]+", text))


def whole(token: str | None, lowest: int, highest: int, *, what: str) -> int:
    """The number a token spells, in `lowest`..=`highest`. Raises InvalidOutput."""
    if token is None:
        raise InvalidOutput(f"the output ends where {what} is expected")
    number = _NUMBER.fullmatch(token)
    if number is None:
        raise InvalidOutput(f"{token[:_SHOWN]!r} is not a number, where {what} is expected")
    value = int(number[1])
    if not lowest <= value <= highest:
        raise InvalidOutput(f"{what} is {value}, allowed are {lowest} to {highest}")
    return value
