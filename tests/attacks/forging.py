"""Attacks on the score: answers that fool a verifier, forged results, a changed grader.

Each is played against a problem: `erdos` unless its name begins with `packing`.
"""

from __future__ import annotations

from typing import Any


def masked_heights(world: Any) -> Any:
    """A masked array: range and sum skip the masked cells, the correlation does not."""
    import numpy as np

    h = np.ma.array(np.full(61, 30.5 / 40), mask=False)
    h[30] = 100.0
    h[20:41] = np.ma.masked
    return h, 0.1, 61


def packing_masked(world: Any) -> Any:
    """Masked centres, for which every comparison is masked too."""
    import numpy as np

    centers = np.ma.array(np.full((26, 2), 0.5), mask=True)
    return centers, np.full(26, 10.0), 260.0


def packing_half_precision(world: Any) -> Any:
    """Half precision, whose coarse steps make a check lenient."""
    import numpy as np

    side = np.arange(5) * 0.2 + 0.1
    centers = np.array([*((x, y) for x in side for y in side), (0.2, 0.2)], np.float16)
    return centers, np.array([0.11] * 25 + [0.045], np.float16), 2.795


def packing_not_a_number(world: Any) -> Any:
    """Not-a-number, for which every check is false."""
    import numpy as np

    return np.full((26, 2), np.nan), np.full(26, 1.0), 26.0


def packing_infinite(world: Any) -> Any:
    """Centres at infinity and radii that cancel them: every comparison is with not-a-number."""
    import numpy as np

    return np.full((26, 2), np.inf), np.full(26, -np.inf), 26.0


def packing_booleans(world: Any) -> Any:
    """Truth values instead of numbers: one and one make one."""
    import numpy as np

    return np.ones((26, 2), bool), np.ones(26, bool), 26.0


def packing_complex(world: Any) -> Any:
    """Complex radii, compared by their small real part and summed by their absolute value."""
    import numpy as np

    centers = np.array([(0.1 + 0.2 * (i % 5), 0.1 + 0.15 * (i // 5)) for i in range(26)], complex)
    return centers, np.full(26, 0.05 + 100j), 2600.0


def packing_of_more_circles(world: Any) -> Any:
    """More circles than asked for."""
    import numpy as np

    centers = np.array([(0.05 + 0.1 * (i % 10), 0.05 + 0.1 * (i // 10)) for i in range(100)])
    return centers, np.full(100, 0.05), 5.0


def claimed_score(world: Any) -> Any:
    """A poor construction with a splendid claim."""
    return [0.5] * 60, 0.3, 60


def lying_array(world: Any) -> Any:
    """An array whose methods lie about what it holds."""
    import numpy as np

    class Lying(np.ndarray):
        def max(self, *args: Any, **named: Any) -> Any:
            return 1.0

        def min(self, *args: Any, **named: Any) -> Any:
            return 0.0

        def sum(self, *args: Any, **named: Any) -> Any:
            return 30.5

    return np.array([0.75] * 30 + [100.0] + [0.75] * 30).view(Lying), 0.1, 61


def lying_float(world: Any) -> Any:
    """Numbers that are one thing when checked and another when used."""

    class Lying(float):
        def __lt__(self, other: Any) -> bool:
            return False

        def __gt__(self, other: Any) -> bool:
            return False

        def __add__(self, other: Any) -> Any:
            return Lying(30.5)

        __radd__ = __add__

    return [*[Lying(0.75)] * 30, Lying(100.0), *[Lying(0.75)] * 30], 0.1, 61


def lying_list(world: Any) -> Any:
    """A list that gives other items each time it is read."""

    class Lying(list):  # type: ignore[type-arg]
        reads = 0

        def __iter__(self) -> Any:
            Lying.reads += 1
            return iter([0.5] * 61 if Lying.reads < 5 else [0.75] * 30 + [100.0] + [0.75] * 30)

    return Lying([0.5] * 61), 0.1, 61


def huge_integers(world: Any) -> Any:
    """Integers of thousands of digits."""
    return [10**4000, 1], 0.1, 2


def pickled_payload(world: Any) -> Any:
    """An object that runs code when it is unpickled."""

    class Payload:
        def __reduce__(self) -> Any:
            return (open, (world["drop"] + "/unpickled", "w"))

    return Payload()


def duplicate_keys(world: Any) -> Any:
    """Raw bytes with the same key twice, written as the result."""
    import os

    os.write(3, b'R{"h":[0.5],"h":[1.0,0.0]}')
    os._exit(0)


def deep_nesting(world: Any) -> Any:
    """Lists in lists until the parser's stack ends."""
    import os

    data = b"R" + b"[" * 100_000 + b"]" * 100_000
    while data:
        data = data[os.write(3, data) :]
    os._exit(0)


def invalid_text(world: Any) -> Any:
    """Bytes that are no text."""
    import os

    os.write(3, b'R["\xff\xfe\x00"]')
    os._exit(0)


def wide_numbers(world: Any) -> Any:
    """A number of a million digits."""
    import os

    data = b"R[" + b"9" * 1_000_000 + b"]"
    while data:
        data = data[os.write(3, data) :]
    os._exit(0)


def forged_verdict(world: Any) -> Any:
    """The verdict itself, written to every descriptor."""
    import json
    import os

    verdict = json.dumps({"outcome": "valid", "value": -0.1, "reward": 10.0, "score": 0.1})
    for number in range(1, 64):
        for text in (verdict, "R" + verdict):
            try:
                os.write(number, text.encode())
            except OSError:
                continue
    os._exit(0)


def forged_exit(world: Any) -> Any:
    """A quiet exit with the status of success, right after a claim on the output."""
    import os

    print('{"outcome": "valid", "value": -0.1, "score": 0.1}', flush=True)
    os._exit(0)


def forged_at_exit(world: Any) -> Any:
    """A second result, written when the first has been handed over."""
    import atexit
    import os

    atexit.register(lambda: os.write(3, b"R[[1.0, 0.0], 0.1, 2]"))
    atexit.register(lambda: print('{"score": 0.1}', flush=True))  # the last one runs first
    return [0.5] * 60, 0.5, 60


def forged_marshal(world: Any) -> Any:
    """Bytes of other serialisers: pickle, marshal, an object array."""
    import os
    import pickle

    for number in range(3, 64):
        try:
            os.write(number, b"R" * (number == 3) + pickle.dumps(([1.0, 0.0], 0.1, 2)))
        except OSError:
            continue
    os._exit(0)


def patched_grader(world: Any) -> Any:
    """Replace the functions with which the result is graded and written."""
    import json

    import numpy as np

    np.correlate = lambda *args, **named: np.zeros(3)
    json.dumps = lambda *args, **named: "[[1.0, 0.0], 0.1, 2]"
    for name in ("judge", "c5", "verify_c5_solution", "evaluate_erdos_solution"):
        if name in globals():
            globals()[name] = lambda *args, **named: 0.1
    return [0.5] * 60, 0.1, 60


def patched_caller(world: Any) -> Any:
    """Walk up the stack into the caller and change what it holds."""
    import sys

    frame: Any = sys._getframe()
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if isinstance(value, dict) and "outcome" in value:
                value["outcome"], value["value"] = "valid", -0.1
        for name in ("c5", "grade", "to_json"):
            if name in frame.f_globals and name != "to_json":
                frame.f_globals[name] = lambda *args: 0.1
        frame = frame.f_back
    return [0.5] * 60, 0.1, 60


def imported_grader(world: Any) -> Any:
    """Import the verifier and change it there."""
    import sys

    for name, module in list(sys.modules.items()):
        if hasattr(module, "c5") or name.startswith("eurekaflow"):
            module.c5 = lambda *args: 0.1  # type: ignore[attr-defined]
    try:
        import eurekaflow.verifiers.erdos as erdos

        erdos.c5 = lambda *args: 0.1
    except ImportError:
        pass
    return [0.5] * 60, 0.1, 60


def faked_clock(world: Any) -> Any:
    """Take two seconds and make every clock in reach say none."""
    import time

    time.sleep(2 * world["wall_s"])
    for name in ("time", "monotonic", "perf_counter", "process_time"):
        setattr(time, name, lambda: 0.0)
    return [0.5] * 60, 0.5, 60
