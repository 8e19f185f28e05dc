"""A matrix instead of a list.

expect: invalid: a list
"""

import numpy as np


def construct_function(**kwargs):
    return np.ones((10, 100))
