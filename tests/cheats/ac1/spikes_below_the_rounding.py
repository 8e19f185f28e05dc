"""Two spikes: the transform's rounding is large beside the true peaks.

expect: honest: -1000.0
"""


def propose_candidate(**kwargs):
    return [1.0] + [0.0] * 998 + [1.0]
