"""Forges an answer of 255 dimensions.

official: invalid
expect: invalid: no readable shape
"""


def magic_denoise(X):
    import os

    os.write(3, b"R\x93f8\xff" + b"\0" * 64)
    os._exit(0)
