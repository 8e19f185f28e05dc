"""Negative heights cancel the peaks of f*f.

expect: invalid: negative
"""


def construct_function(**kwargs):
    return [1.0, -0.5, 1.0, -0.5] * 250
