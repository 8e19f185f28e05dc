"""h = 1 everywhere has 1 - h = 0; its integral is 2, and rescaling gives 1/2.

expect: honest: -0.5
"""


def run(**kwargs):
    return [1.0] * 50
