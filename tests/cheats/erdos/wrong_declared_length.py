"""The declared number of points scales the score.

expect: invalid: n_points
"""


def run(**kwargs):
    return [0.5] * 50, 0.5, 5000
