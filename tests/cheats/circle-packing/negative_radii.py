"""A negative radius makes room for its neighbours.

expect: invalid: not positive
"""


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    return centers, [0.2] * 13 + [-0.05] * 13, 2.0
