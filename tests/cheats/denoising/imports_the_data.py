"""Reads the counts with the verifier's own code.

official: raised
expect: raised: ModuleNotFoundError
"""


def magic_denoise(X):
    from eurekaflow.verifiers.denoising_data import real

    return real().counts - X
