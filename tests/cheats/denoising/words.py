"""Says that it is perfect.

official: raised
expect: raised: <U7
"""


def magic_denoise(X):
    return "perfect"
