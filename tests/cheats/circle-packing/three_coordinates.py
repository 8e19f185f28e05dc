"""A third coordinate moves the circles apart.

expect: invalid: length 3
"""


def run_packing(**kwargs):
    return [[0.5, 0.5, float(i)] for i in range(26)], [0.5] * 26, 13.0
