"""The result pipe is written to directly, with a verdict instead of an answer.

expect: invalid: must be a list
"""

import os


def run(**kwargs):
    os.write(3, b'R{"outcome": "valid", "value": -0.1, "reward": 10.0}')
    os._exit(0)
