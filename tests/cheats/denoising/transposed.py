"""Genes x cells.

official: invalid
expect: invalid: has shape (765, 700)
"""


def magic_denoise(X):
    return X.T
