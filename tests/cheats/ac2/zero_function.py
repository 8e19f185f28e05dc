"""0/0.

expect: invalid: zero everywhere
"""


def construct_function(**kwargs):
    return [0.0] * 1000
