"""Radii that are small when checked and large when summed: they are read once.

expect: invalid: by
"""

TURNS = {}


class Changing:
    def __float__(self):
        TURNS[id(self)] = TURNS.get(id(self), 0) + 1
        return 0.3 if TURNS[id(self)] == 1 else 0.01


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    return centers, [Changing() for _ in range(26)], 2.0
