"""A negative below any tolerance is still negative.

expect: invalid: negative
"""


def run(**kwargs):
    return [0.5, -5e-324, 0.5, 0.5]
