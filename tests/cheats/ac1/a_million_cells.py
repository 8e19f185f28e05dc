"""A million cells against a direct convolution: minutes of verification.

expect: invalid: length 1000000
"""


def propose_candidate(**kwargs):
    return [1] * 1_000_000
