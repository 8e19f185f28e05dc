"""Exact products of integer sequences through one big multiplication (Kronecker substitution).

A sequence is packed into one number, each entry in a slot wide enough for any coefficient of the
product, so the product's slots are the coefficients. The numbers are decimal, because `decimal`
multiplies by number-theoretic transforms where Python's integers use Karatsuba's method: 50,000
entries of 100 bits take about half a second. Inexact results are trapped, so none can be rounded.
"""

from __future__ import annotations

import decimal
from collections.abc import Sequence

_EXACT = decimal.Context(
    prec=decimal.MAX_PREC,
    Emax=decimal.MAX_EMAX,
    Emin=decimal.MIN_EMIN,
    traps=[decimal.Inexact, decimal.InvalidOperation],
)


def to_integers(values: Sequence[float]) -> list[int]:
    """The doubles times one common power of two, exactly."""
    ratios = [value.as_integer_ratio() for value in values]
    scale = max(denominator for _, denominator in ratios)  # denominators are powers of two
    return [numerator * (scale // denominator) for numerator, denominator in ratios]


def correlation(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """All n + m - 1 sums over i of a[i] b[i + k], k = m-1 first, for non-negative integers."""
    return convolution(a, b[::-1])


def convolution(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """All n + m - 1 coefficients of the product, for non-negative integers."""
    width = len(str(min(len(a), len(b)) * max(a) * max(b)))  # digits of a slot
    first = _pack(a, width)
    second = first if a is b else _pack(b, width)
    digits = str(_EXACT.multiply(first, second)).zfill(width * (len(a) + len(b) - 1))
    return [int(digits[i : i + width]) for i in range(0, len(digits), width)]


def _pack(values: Sequence[int], width: int) -> decimal.Decimal:
    return decimal.Decimal("".join([str(value).zfill(width) for value in values]))
