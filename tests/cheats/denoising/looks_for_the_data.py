"""Looks for the counts in every folder that it can see.

official: raised
expect: raised: no counts anywhere
"""


def magic_denoise(X):
    import os

    for _, _, files in os.walk("/"):
        for name in files:
            if name.startswith(("pbmc68k_reduced", "10x_pbmc68k")):
                return X * 0
    raise FileNotFoundError("no counts anywhere")
