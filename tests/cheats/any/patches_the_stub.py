"""The stub's own serialiser is replaced to send something else.

expect: invalid: must be a list
"""

import json
import sys


def run(**kwargs):
    json.dumps = lambda *a, **k: '{"value": -0.01}'
    for module in list(sys.modules.values()):
        if hasattr(module, "to_json"):
            module.to_json = lambda value: {"value": -0.01}
    return [0.5] * 10
