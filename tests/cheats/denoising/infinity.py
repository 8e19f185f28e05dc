"""One infinity, which normalising a cell turns into zeros and NaN.

official: invalid
expect: invalid: not finite
"""

import numpy as np


def magic_denoise(X):
    D = np.array(X)
    D[3, 3] = np.inf
    return D
