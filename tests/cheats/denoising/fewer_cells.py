"""Only the cells that are easy.

official: invalid
expect: invalid: has shape (699, 765)
"""


def magic_denoise(X):
    return X[1:]
