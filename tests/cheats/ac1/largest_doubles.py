"""Sums of the largest doubles overflow.

expect: honest: -2.0
"""


def propose_candidate(**kwargs):
    return [1.7e308] * 1000
