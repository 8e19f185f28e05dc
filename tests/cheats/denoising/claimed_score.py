"""The matrix and a score of its own.

official: raised
expect: raised: ValueError
"""


def magic_denoise(X):
    return X, 0.99
