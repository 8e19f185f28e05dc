"""A nested list where heights belong.

expect: invalid: a list
"""


def run(**kwargs):
    return [[[0.5], [0.5]], 0.5, 2]
