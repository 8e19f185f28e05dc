"""An integer of a million digits takes a naive parser minutes.

expect: invalid: digits
"""

import os


def run(**kwargs):
    os.write(3, b"R[0.5, " + b"7" * 1_000_000 + b"]")
    os._exit(0)
