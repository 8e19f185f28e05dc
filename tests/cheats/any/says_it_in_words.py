"""The output claims a score.

expect: no_result:
"""

import os


def run(**kwargs):
    print("C5 = 0.1, verified, reward 10", flush=True)
    os._exit(0)
