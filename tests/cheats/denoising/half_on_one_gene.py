"""Half a diffusion, half piled on one gene: even the MSE likes it.

official: 0.32
expect: invalid: times its share of the counts
"""


def magic_denoise(X):
    D = 0.5 * diffuse(X)  # noqa: F821
    D[:, X.sum(axis=0).argmax()] += 0.5 * X.sum(axis=1)
    return D
