"""The maximum over nothing.

expect: invalid: length 0
"""


def run(**kwargs):
    return []
