"""An answer of tens of megabytes keeps a parser busy.

expect: too_large:
"""


def run(**kwargs):
    return "0" * (17 << 20)
