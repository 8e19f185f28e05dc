"""A masked array hides cells from range and sum checks but not from the score.

expect: raised: a masked array is no answer
"""

import numpy as np


def run(**kwargs):
    return np.ma.array([0.5, 9.0, 0.5, -9.0], mask=[0, 1, 0, 1])
