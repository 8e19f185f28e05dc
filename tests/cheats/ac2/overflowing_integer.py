"""An integer that no double holds.

expect: invalid: too large
"""


def construct_function(**kwargs):
    return [1] * 999 + [10**400 // 10**20]
