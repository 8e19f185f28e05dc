"""Masked centers skip every test, so radii of 10 pass.

expect: raised: a masked array is no answer
"""

import numpy as np


def run_packing(**kwargs):
    return np.ma.array(np.full((26, 2), 0.5), mask=True), np.full(26, 10.0), 260.0
