"""The program's own C5 is far too good.

expect: honest: -0.5
"""


def run(**kwargs):
    return [0.5] * 51, 0.38, 51
