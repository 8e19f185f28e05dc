"""Strict reading of answers: JSON bytes to values, values to float64 arrays.

What it stops: NaN and infinity, booleans, strings where numbers belong, wrong shapes, duplicate
keys, integers too long for a float, nesting that exhausts the stack, bytes that are not UTF-8.
Everything it refuses is an `InvalidAnswer` whose message names the rule.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from eurekaflow.verifiers.problem import InvalidAnswer
from eurekaflow.verifiers.stub import ARRAY

Array = npt.NDArray[np.float64]

_LONGEST_INTEGER = 400  # digits; a float64 has at most 309 before the point
_MOST_DIMENSIONS = 4
_DEEPEST = 200  # lists in lists


def parse(data: bytes) -> object:
    """The JSON value in `data`; raises InvalidAnswer for everything that is not plain JSON."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidAnswer(f"the result is not UTF-8 text: {error.reason}") from None
    try:
        value: object = _DECODER.decode(text)
    except RecursionError:
        raise InvalidAnswer("the result is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise InvalidAnswer(f"the result is not JSON: {error.msg} at {error.pos}") from None
    _refuse_deep(value)
    return value


def _refuse_deep(value: object) -> None:
    level: list[object] = [value]
    for _ in range(_DEEPEST):
        level = [item for parent in level for item in _containers(parent)]
        if not level:
            return
    raise InvalidAnswer(f"the result is nested more than {_DEEPEST} deep")


def _containers(value: object) -> Iterable[object]:
    if isinstance(value, list):
        return (item for item in value if isinstance(item, list | dict))
    if isinstance(value, dict):
        return (item for item in value.values() if isinstance(item, list | dict))
    return ()


def _constant(name: str) -> NoReturn:
    raise InvalidAnswer(f"the result contains {name}, which is not a number")


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise InvalidAnswer(f"the result contains an integer of {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise InvalidAnswer(f"the result contains {digits[:20]}, which overflows a float")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise InvalidAnswer("the result has an object with duplicate keys")
    return result


_DECODER = json.JSONDecoder(
    parse_constant=_constant, parse_int=_integer, parse_float=_float, object_pairs_hook=_object
)


def array(data: bytes) -> Array:
    """The matrix in `ARRAY` bytes as the sandbox's stub packs it; raises InvalidAnswer."""
    dimensions = data[len(ARRAY)] if len(data) > len(ARRAY) else 0
    start = len(ARRAY) + 1 + 8 * dimensions
    if not 1 <= dimensions <= _MOST_DIMENSIONS or len(data) < start:
        raise InvalidAnswer("the returned array has no readable shape")
    shape = struct.unpack(f"<{dimensions}Q", data[len(ARRAY) + 1 : start])
    if 8 * math.prod(shape) != len(data) - start:
        raise InvalidAnswer(f"the returned array of shape {shape} has {len(data) - start} bytes")
    values = np.frombuffer(data, dtype="<f8", offset=start).reshape(shape)
    if not np.isfinite(values).all():
        raise InvalidAnswer("the returned array is not finite")
    return values


def number(value: object, *, what: str) -> float:
    """`value` as a finite float. Booleans, strings, None and containers are refused."""
    if type(value) is not float and type(value) is not int:
        raise InvalidAnswer(f"{what} must be a number, not {_kind(value)}")
    try:
        result = float(value)
    except OverflowError:
        raise InvalidAnswer(f"{what} is an integer too large for a float") from None
    if not math.isfinite(result):
        raise InvalidAnswer(f"{what} is {result}, not a finite number")
    return result


def whole(value: object, *, what: str) -> int:
    """`value` as an integer; 51.0 counts as 51."""
    result = number(value, what=what)
    if result != int(result):
        raise InvalidAnswer(f"{what} must be a whole number, not {result!r}")
    return int(result)


def numbers(value: object, *, what: str, longest: int) -> list[float]:
    """`value` as a list of finite floats with 1 <= length <= `longest`."""
    items = sequence(value, what=what)
    if not 1 <= len(items) <= longest:
        raise InvalidAnswer(f"{what} has length {len(items)}, allowed is 1 to {longest}")
    return [number(item, what=f"{what}[{i}]") for i, item in enumerate(items)]


def rows(value: object, *, what: str, count: int, width: int) -> list[list[float]]:
    """`value` as `count` rows of `width` finite floats."""
    items = sequence(value, what=what)
    if len(items) != count:
        raise InvalidAnswer(f"{what} has {len(items)} rows, needed are exactly {count}")
    result = [numbers(row, what=f"{what}[{i}]", longest=width) for i, row in enumerate(items)]
    short = next((i for i, row in enumerate(result) if len(row) != width), None)
    if short is not None:
        raise InvalidAnswer(f"{what}[{short}] has {len(result[short])} numbers, needed: {width}")
    return result


def sequence(value: object, *, what: str) -> Sequence[object]:
    """`value` if it is a list."""
    if not isinstance(value, list):
        raise InvalidAnswer(f"{what} must be a list, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    names = {bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
