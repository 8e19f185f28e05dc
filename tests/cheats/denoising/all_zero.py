"""Nothing at all: the swapped Poisson loss calls it almost perfect.

official: 0.52
expect: invalid: cells are empty
"""

import numpy as np


def magic_denoise(X):
    return np.zeros(X.shape)
