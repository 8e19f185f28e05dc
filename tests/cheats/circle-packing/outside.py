"""Circles beside the square.

expect: invalid: leaves the square
"""


def run_packing(**kwargs):
    return [[10.0 * i, 0.5] for i in range(26)], [0.5] * 26, 13.0
