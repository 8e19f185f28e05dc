"""Complex heights rotate f*f.

expect: raised: complex
"""

import numpy as np


def construct_function(**kwargs):
    return np.exp(1j * np.arange(1000))
