"""A small circle inside a large one: boundaries do not touch.

expect: invalid: overlap
"""


def run_packing(**kwargs):
    centers = [[0.5, 0.5]] + [[0.5 + 0.01 * i, 0.5] for i in range(1, 26)]
    return centers, [0.5] + [0.001] * 25, 0.525
