"""A masked array, whose checks skip what is masked.

official: raised
expect: raised: masked array
"""

import numpy as np


def magic_denoise(X):
    return np.ma.array(X, mask=X == 0)
