"""Masked cells of -1 escape range and sum checks; the correlation counts them.

expect: raised: a masked array is no answer
"""

import numpy as np


def run(**kwargs):
    value = np.where(np.arange(200) % 2, 1.0, -1.0)
    return np.ma.array(value, mask=value < 0), 0.127, 200
