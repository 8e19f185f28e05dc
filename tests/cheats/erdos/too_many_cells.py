"""More cells than training allows: slow to verify.

expect: invalid: length 5000
"""


def run(**kwargs):
    return [0.5] * 5000
