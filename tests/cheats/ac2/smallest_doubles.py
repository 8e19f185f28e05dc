"""Squares of the smallest doubles underflow to 0, and 0/0 is NaN.

expect: honest: 0.6666666666666666
"""


def construct_function(**kwargs):
    return [5e-324] * 1000
