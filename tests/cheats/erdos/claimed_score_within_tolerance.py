"""A claim within 1e-4 of the truth: worth twice the gap between two records.

expect: honest: -0.5
"""


def run(**kwargs):
    return [0.5] * 51, 0.5 - 1.04e-4, 51
