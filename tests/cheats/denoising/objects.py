"""Objects that answer to float().

official: raised
expect: raised: object
"""

import numpy as np


def magic_denoise(X):
    class Odd:
        def __float__(self):
            return 1e9

    return np.full(X.shape, Odd(), dtype=object)
