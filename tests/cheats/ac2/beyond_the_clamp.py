"""Heights above 1000 would be cut down to a constant; ours are scale-free.

expect: honest: 0.6666666666666666
"""


def construct_function(**kwargs):
    return [1e9] * 1000
