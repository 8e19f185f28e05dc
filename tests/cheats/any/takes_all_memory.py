"""A memory bomb must end as the candidate's own failure.

expect: memory:
"""


def run(**kwargs):
    held = []
    while True:
        held.append(bytearray(1 << 26))
