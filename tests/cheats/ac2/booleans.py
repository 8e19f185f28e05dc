"""True is an int to isinstance.

expect: invalid: boolean
"""


def construct_function(**kwargs):
    return [True] * 1000
