"""NaN radii: every comparison is false, so no test fails.

expect: invalid: contains NaN
"""


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    return centers, [float("nan")] * 26, 2.7
