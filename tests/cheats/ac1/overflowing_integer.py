"""An integer that no double holds.

expect: invalid: too large
"""


def propose_candidate(**kwargs):
    return [1] * 999 + [10**400 // 10**20]
