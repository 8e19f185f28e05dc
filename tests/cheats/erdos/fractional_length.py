"""A fractional number of points.

expect: invalid: whole number
"""


def run(**kwargs):
    return [0.5] * 50, 0.5, 50.5
