"""True counts as 1 in sums and comparisons.

expect: invalid: boolean
"""


def run(**kwargs):
    return [True, False, True, False]
