"""Squares of the smallest doubles underflow to 0, and 0/0 is NaN.

expect: honest: -2.0
"""


def propose_candidate(**kwargs):
    return [5e-324] * 1000
