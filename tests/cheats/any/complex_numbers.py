"""Complex numbers have a real part that passes and an imaginary one that scores.

expect: raised: complex
"""

import numpy as np


def run(**kwargs):
    return np.array([0.5 + 1j, 0.5 - 1j])
