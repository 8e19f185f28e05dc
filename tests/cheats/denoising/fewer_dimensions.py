"""One long row.

official: invalid
expect: invalid: has shape (535500,)
"""


def magic_denoise(X):
    return X.ravel()
