"""Single precision passes violations of 1e-8.

expect: invalid: by
"""

import numpy as np


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    return np.array(centers, np.float32), np.full(26, 1 / 12 + 2e-8, np.float32), 2.2
