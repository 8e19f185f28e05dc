"""h = 0 has overlap 0 and no integral to rescale.

expect: invalid: zero everywhere
"""


def run(**kwargs):
    return [0.0] * 50
