"""0/0.

expect: invalid: zero everywhere
"""


def propose_candidate(**kwargs):
    return [0.0] * 1000
