"""Floats whose `__float__` and comparisons lie: a double crosses, nothing else.

expect: honest: -2.0
"""


class Odd(float):
    def __float__(self):
        return 1.0

    def __lt__(self, other):
        return False


def propose_candidate(**kwargs):
    return [Odd(1.0) for _ in range(1000)]
