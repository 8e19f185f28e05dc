"""A negative score turns 1/C5 into a negative, or huge, reward.

expect: honest: -0.5
"""


def run(**kwargs):
    return [0.5] * 51, -1e-12, 51
