"""Strings of digits convert silently in numpy.

expect: invalid: string
"""


def run(**kwargs):
    return ["0.5", "0.5"]
