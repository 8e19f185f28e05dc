"""Two spikes: the transform's rounding is large beside the true peaks.

expect: honest: 0.5
"""


def construct_function(**kwargs):
    return [1.0] + [0.0] * 998 + [1.0]
