"""All mass in one subnormal cell: rescaling makes it enormous.

expect: invalid: > 1
"""


def run(**kwargs):
    return [5e-324, 0.0, 0.0, 0.0]
