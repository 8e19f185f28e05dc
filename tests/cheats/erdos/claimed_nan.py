"""A NaN claim: every tolerance test with it is false.

expect: invalid: contains NaN
"""


def run(**kwargs):
    return [0.5] * 51, float("nan"), 51
