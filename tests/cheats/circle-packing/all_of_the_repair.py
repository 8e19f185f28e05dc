"""Every circle too large by what the repair removes: it removes it all.

expect: honest: 2.1666666666666665
"""


def run_packing(**kwargs):
    centers = [[(i % 6 + 0.5) / 6, (i // 6 + 0.5) / 6] for i in range(26)]
    return centers, [1 / 12 + 9e-10] * 26, 2.17
