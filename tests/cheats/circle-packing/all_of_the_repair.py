"""Every circle too large by half of what the repair removes at most: it costs, not gains.

expect: honest: 2.166666654966
"""


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    return centers, [1 / 12 + 4.5e-10] * 26, 2.17
