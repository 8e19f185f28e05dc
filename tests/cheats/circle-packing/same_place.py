"""All circles in one place.

expect: invalid: overlap
"""


def run_packing(**kwargs):
    return [[0.5, 0.5]] * 26, [0.5] * 26, 13.0
