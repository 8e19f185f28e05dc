"""A matrix: per-row checks pass, the score takes the first row.

expect: invalid: parts
"""

import numpy as np


def run(**kwargs):
    return np.full((4, 4), 0.5)
