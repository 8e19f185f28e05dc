"""`__len__` says two, the iterator gives more.

expect: honest: -0.5
"""


class Short(list):
    def __len__(self):
        return 2


def run(**kwargs):
    return Short([0.5] * 10)
