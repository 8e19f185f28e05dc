"""A harness that unpickles runs the code in the pickle.

expect: invalid: not UTF-8
"""

import os
import pickle


class Payload:
    def __reduce__(self):
        return (os.system, ("touch /tmp/eurekaflow-was-here",))


def run(**kwargs):
    os.write(3, b"R" + pickle.dumps(Payload()))
    os._exit(0)
