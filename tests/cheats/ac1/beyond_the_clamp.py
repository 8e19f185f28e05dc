"""Heights above 1000 would be cut down to a constant; ours are scale-free.

expect: honest: -2.0
"""


def propose_candidate(**kwargs):
    return [1e9] * 1000
