"""A float whose arithmetic lies: only its double may cross.

expect: honest: -0.5
"""


class Liar(float):
    def __mul__(self, other):
        return -1.0

    __rmul__ = __sub__ = __rsub__ = __mul__


def run(**kwargs):
    return [Liar(0.5)] * 10
