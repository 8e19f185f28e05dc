"""An infinite denominator.

expect: invalid: contains Infinity
"""


def construct_function(**kwargs):
    return [1.0] * 999 + [float("inf")]
