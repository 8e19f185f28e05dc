"""The claimed bound beside the list.

expect: invalid: a list
"""


def construct_function(**kwargs):
    return [1.0] * 1000, 0.5
