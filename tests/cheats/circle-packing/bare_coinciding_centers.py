"""Centers alone, all equal: the linear program would divide the same room.

expect: invalid: coincide
"""


def run_packing(**kwargs):
    return [[0.5, 0.5]] * 26
