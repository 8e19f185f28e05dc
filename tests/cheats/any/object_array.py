"""An object array carries whatever methods its elements have into the verifier.

expect: raised: cannot return
"""

import numpy as np


class Chameleon:
    def __lt__(self, other):
        return False

    __gt__ = __lt__


def run(**kwargs):
    return np.array([Chameleon(), Chameleon()], dtype=object)
