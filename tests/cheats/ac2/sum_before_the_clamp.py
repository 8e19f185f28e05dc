"""The sum counts a value that clamping later removes.

expect: invalid: negative
"""


def construct_function(**kwargs):
    return [1e6] + [-900.0] * 999
