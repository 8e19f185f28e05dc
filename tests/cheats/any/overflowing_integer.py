"""An integer beyond the range of doubles turns into infinity, or crashes a parser.

expect: invalid: too large
"""


def run(**kwargs):
    return [0.5, 10**350]
