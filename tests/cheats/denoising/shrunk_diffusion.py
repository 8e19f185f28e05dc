"""A diffusion whose totals are shrunk to a five-hundredth.

official: 0.56
expect: at most 0.15
"""


def magic_denoise(X):
    return diffuse(X) / 500  # noqa: F821
