"""Clipping to [0, 1] and then normalising pushes values above 1.

expect: invalid: > 1
"""


def run(**kwargs):
    return [1.0, 1.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0]
