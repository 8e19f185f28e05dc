"""A negative entry: its logarithm in the swapped loss is the test's, so it would pay.

official: invalid
expect: invalid: negative entry
"""

import numpy as np


def magic_denoise(X):
    D = np.array(X)
    D[3, 3] = -1e6
    return D
