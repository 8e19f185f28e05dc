"""Half precision moves the fifth decimal; the doubles returned are what counts.

expect: honest: -0.5120429873466492
"""

import numpy as np


def run(**kwargs):
    h = np.array([0.5 + 0.1 * (-1) ** i for i in range(40)], np.float16)
    return h, 0.4, 40
