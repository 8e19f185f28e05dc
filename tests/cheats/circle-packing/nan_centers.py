"""NaN centers touch nothing.

expect: invalid: contains NaN
"""


def run_packing(**kwargs):
    return [[float("nan")] * 2] * 26, [0.5] * 26, 13.0
