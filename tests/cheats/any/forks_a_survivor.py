"""A child that outlives the candidate could work on in later attempts' time.

expect: raised:
"""

import os
import time


def run(**kwargs):
    if os.fork() == 0:
        time.sleep(600)
    return [0.5] * 10
