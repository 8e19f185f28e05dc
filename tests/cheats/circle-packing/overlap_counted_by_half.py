"""Overlaps of 1.8e-9, which a repair that divides them among both circles would take.

expect: invalid: overlap by 1.8e-09
"""


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    return centers, [1 / 12 + 9e-10] * 26, 2.17
