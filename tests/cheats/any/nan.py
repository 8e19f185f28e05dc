"""NaN in an array: min and max comparisons with it are all false.

expect: invalid: contains NaN
"""

import numpy as np


def run(**kwargs):
    return np.array([0.5, np.nan, 0.5])
