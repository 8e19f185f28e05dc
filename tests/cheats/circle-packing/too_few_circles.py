"""Fewer circles are easier to fit.

expect: invalid: 25 rows
"""


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    return centers[:25], [1 / 12] * 25, 2.0
