"""A circle infinitely far away overlaps nobody.

expect: invalid: contains Infinity
"""


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    centers[0] = [float("inf"), 0.5]
    return centers, [0.08] * 26, 2.1
