"""Masked cells escape the checks.

expect: raised: a masked array is no answer
"""

import numpy as np


def construct_function(**kwargs):
    return np.ma.array(np.ones(1000), mask=np.arange(1000) % 2)
