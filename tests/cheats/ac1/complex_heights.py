"""Complex heights rotate f*f.

expect: raised: complex
"""

import numpy as np


def propose_candidate(**kwargs):
    return np.exp(1j * np.arange(1000))
