"""The claimed bound beside the list.

expect: invalid: a list
"""


def propose_candidate(**kwargs):
    return [1.0] * 1000, 0.5
