"""`__float__` of an odd object returns NaN after the checks.

expect: invalid: contains NaN
"""


class Odd:
    def __float__(self):
        return float("nan")


def construct_function(**kwargs):
    return [Odd() for _ in range(1000)]
