"""An infinite denominator.

expect: invalid: contains Infinity
"""


def propose_candidate(**kwargs):
    return [1.0] * 999 + [float("inf")]
