"""Just beyond what rounding explains.

expect: invalid: > 1
"""


def run(**kwargs):
    return [1.0 + 3e-9, 1.0, 1.0, 0.0, 0.0, 0.0]
