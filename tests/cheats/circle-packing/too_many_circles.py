"""More circles than asked for have a larger sum.

expect: invalid: 36 rows
"""


def run_packing(**kwargs):
    return [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(36)], [1 / 12] * 36, 3.0
