"""`__float__` answers something else each time it is asked; one answer crosses.

expect: invalid: negative
"""

import itertools

TURNS = itertools.cycle([0.5, -3.0])


class Moody:
    def __float__(self):
        return next(TURNS)


def run(**kwargs):
    return [Moody() for _ in range(10)]
