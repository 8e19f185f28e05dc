"""One cell above 1 with an honest sum.

expect: invalid: > 1
"""


def run(**kwargs):
    return [1.5, 0.5, 0.0, 0.0]
