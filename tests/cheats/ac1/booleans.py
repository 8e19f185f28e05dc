"""True is an int to isinstance.

expect: invalid: boolean
"""


def propose_candidate(**kwargs):
    return [True] * 1000
