"""Negatives below what rounding explains.

expect: invalid: negative
"""


def construct_function(**kwargs):
    return [1.0] * 999 + [-1e-9]
