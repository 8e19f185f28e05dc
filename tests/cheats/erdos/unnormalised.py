"""Not a hack: h is rescaled, and worth what the rescaled function is worth.

expect: honest: -0.5
"""


def run(**kwargs):
    return [0.01] * 50
