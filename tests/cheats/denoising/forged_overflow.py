"""Forges a shape whose product overflows 64 bits to the right size.

official: invalid
expect: invalid: bytes
"""


def magic_denoise(X):
    import os
    import struct

    os.write(3, b"R\x93f8" + struct.pack("<B2Q", 2, 2**61, 2**3) + b"\0" * 8)
    os._exit(0)
