"""Exit status 0 without an answer is no answer.

expect: no_result: 0
"""

import os


def run(**kwargs):
    os._exit(0)
