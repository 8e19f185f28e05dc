"""A negative sum squared looks like a large integral.

expect: invalid: negative
"""


def propose_candidate(**kwargs):
    return [-1.0] * 1000
