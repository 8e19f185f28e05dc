"""A matrix instead of a list.

expect: invalid: a list
"""

import numpy as np


def propose_candidate(**kwargs):
    return np.ones((10, 100))
