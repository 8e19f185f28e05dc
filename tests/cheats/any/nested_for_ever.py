"""Nesting exhausts the stack of a recursive parser.

expect: invalid: nested
"""

import os


def run(**kwargs):
    os.write(3, b"R" + b"[" * 100_000 + b"]" * 100_000)
    os._exit(0)
