"""Complex numbers.

official: raised
expect: raised: complex128
"""


def magic_denoise(X):
    return X + 0j
