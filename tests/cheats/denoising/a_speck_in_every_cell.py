"""Nothing at all, but for a speck in every cell against the check for empty cells.

official: 0.46
expect: invalid: times its share of the counts
"""

import numpy as np


def magic_denoise(X):
    D = np.zeros(X.shape)
    D[:, 0] = 1e-300
    return D
