"""Two answers on the pipe: the judge must not pick the better one.

expect: invalid: not JSON
"""

import os


def run(**kwargs):
    os.write(3, b"R[0.5, 0.5]")
    os.write(3, b"R[0.5, 0.5, 0.5, 0.5]")
    os._exit(0)
