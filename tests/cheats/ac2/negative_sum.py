"""A negative sum squared looks like a large integral.

expect: invalid: negative
"""


def construct_function(**kwargs):
    return [-1.0] * 1000
