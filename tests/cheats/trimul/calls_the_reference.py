# rejected: no attribute|No module|raised
# fools: patched
"""Calls the harness's own reference."""

import sys


def custom_kernel(data):
    return sys.modules["__main__"].reference(data)
