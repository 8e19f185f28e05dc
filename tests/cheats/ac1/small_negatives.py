"""Negatives below what rounding explains.

expect: invalid: negative
"""


def propose_candidate(**kwargs):
    return [1.0] * 999 + [-1e-9]
