"""True is a radius of 1.

expect: invalid: boolean
"""


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    return centers, [True] * 26, 26.0
