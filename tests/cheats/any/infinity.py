"""An infinite sum makes every ratio with it zero.

expect: invalid: contains Infinity
"""


def run(**kwargs):
    return [0.5, float("inf")]
