"""Booleans instead of numbers.

official: raised
expect: raised: bool
"""


def magic_denoise(X):
    return X > 0
