"""No denoising on the scale of the smallest doubles.

official: 0.49
expect: at most 0.02
"""


def magic_denoise(X):
    return X * 1e-320
