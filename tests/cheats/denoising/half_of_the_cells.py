"""Half of the cells are ignored.

official: 0.25
expect: invalid: cells are empty
"""

import numpy as np


def magic_denoise(X):
    D = np.array(X)
    D[::2] = 0
    return D
