"""Checks run in the answer's own precision pass what doubles refuse.

expect: honest: -0.5
"""

import numpy as np


def run(**kwargs):
    return np.full(40, 0.5, dtype=np.float16), 0.4, 40
