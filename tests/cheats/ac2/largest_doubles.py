"""Sums of the largest doubles overflow.

expect: honest: 0.6666666666666666
"""


def construct_function(**kwargs):
    return [1.7e308] * 1000
