"""Writes an answer of another shape down the result pipe and leaves.

official: no_result or invalid
expect: invalid: bytes
"""


def magic_denoise(X):
    import os
    import struct

    os.write(3, b"R\x93f8" + struct.pack("<B2Q", 2, 700, 765) + b"\0" * 64)
    os._exit(0)
