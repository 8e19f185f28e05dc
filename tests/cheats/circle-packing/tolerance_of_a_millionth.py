"""An overlap within the tolerance of looser evaluators.

expect: invalid: by
"""


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    return centers, [1 / 12 + 5e-7] * 26, 2.17
