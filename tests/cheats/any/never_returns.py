"""A program that outlives its budget must be ended, its threads included.

expect: timeout:
"""

import threading


def run(**kwargs):
    threading.Thread(target=run).start()
    while True:
        pass
