"""Tests in half precision pass circles that leave the square by 1e-4.

expect: invalid: by
"""

import numpy as np


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    return np.array(centers, np.float16), np.full(26, 1 / 12, np.float16), 2.2
