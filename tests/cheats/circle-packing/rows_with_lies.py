"""Rows of x, y, r: the overlap is seen all the same.

expect: invalid: overlap
"""


def run_packing(**kwargs):
    return [[0.5, 0.5, 0.1]] * 26
