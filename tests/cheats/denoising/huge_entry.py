"""An entry above the sum of all counts.

official: invalid
expect: invalid: is above the sum of X
"""


def magic_denoise(X):
    return X * 1e6
