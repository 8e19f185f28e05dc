"""Masked radii skip the overlap test.

expect: raised: a masked array is no answer
"""

import numpy as np


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    return centers, np.ma.array(np.full(26, 1.0), mask=True), 26.0
