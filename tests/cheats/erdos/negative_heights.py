"""Negative overlap where h < 0 pays for the rest.

expect: invalid: negative
"""


def run(**kwargs):
    return [1.0, 1.0, -0.5, 1.0, -0.5, 0.5]
