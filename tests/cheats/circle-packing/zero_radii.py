"""Circles of radius 0 never overlap: fewer circles in disguise.

expect: invalid: not positive
"""


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    return centers, [0.5] + [0.0] * 25, 0.5
