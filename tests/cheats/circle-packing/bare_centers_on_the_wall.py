"""Centers alone, on the wall, where no circle fits.

expect: invalid: not inside
"""


def run_packing(**kwargs):
    return [[0.0, (i + 0.5) / 26] for i in range(26)]
