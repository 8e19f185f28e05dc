"""Never returns.

official: timeout
expect: timeout:
"""


def magic_denoise(X):
    while True:
        pass
