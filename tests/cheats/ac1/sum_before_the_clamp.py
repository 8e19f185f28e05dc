"""The sum counts a value that clamping later removes.

expect: invalid: negative
"""


def propose_candidate(**kwargs):
    return [1e6] + [-900.0] * 999
