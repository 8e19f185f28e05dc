"""A claim that contradicts a theorem.

expect: honest: -0.5
"""


def run(**kwargs):
    return [0.5] * 51, 0.0, 51
