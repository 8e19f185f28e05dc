"""How candidates are commonly run: the control that shows what each attack does without walls.

    python naive.py PROGRAM ENTRY_POINT WORLD PROBLEM LIMIT_S

The program runs in a child with the parent's environment, descriptors and rights, beside its
grader; the child is asked to end at the limit; the result comes back as a pickle, the score as the
last JSON on the child's output. The last line printed here is JSON: gained, score, lived_s,
printed, message. Only for throwaway folders; the child has its own session and, as root, mounts of
its own, and limits that keep the bombs small.
"""

import json
import os
import pickle
import resource
import subprocess
import sys
import time

import numpy as np

GRACE_S = 20.0


def c5(h, _claimed, n):
    """The overlap, recomputed; range and sum are asked of whatever came."""
    listed = not isinstance(h, np.ndarray)
    if len(h) != n or any(value != value for value in h):
        return None
    low, high, total = (min(h), max(h), sum(h)) if listed else (h.min(), h.max(), h.sum())
    if low < 0 or high > 1 or abs(total - n / 2) > 1e-6 * n:
        return None
    values = np.array(h, float)
    return float(np.correlate(values, 1 - values, "full").max() * 2 / n)


def packing(centers, radii, _claimed):
    """The sum of radii, with all distances at once, as exact as the precision that came."""
    inexact = radii.dtype.kind in "fc"
    slack = np.sqrt(np.finfo(radii.dtype).eps) if inexact else 0
    low, high = centers < radii[:, None] - slack, centers + radii[:, None] > 1 + slack
    squares = (centers * centers).sum(axis=1)
    gaps = np.sqrt(squares[:, None] + squares - 2 * centers.dot(centers.T))
    near = gaps < radii[:, None] + radii - slack
    if low.any() or high.any() or near[np.triu_indices(len(radii), 1)].any():
        return None
    return float(np.linalg.norm(radii, 1))


def trusting(_construction, claimed, _n):
    """A grader that checks nothing of what it is told."""
    return claimed


def grade(entry, value):
    """The grader of that kind of answer; None when it refuses or cannot."""
    if not isinstance(value, tuple) or len(value) != 3:
        return None
    try:
        if entry == "claimed_score":
            return trusting(*value)
        return packing(*value) if "packing" in entry else c5(*value)
    except Exception:
        return None


def child(path, entry, world, out):
    """Beside the grader: execute, time, grade; a pickle and a last line of JSON."""
    report = open(out, "wb")
    started = time.perf_counter()
    space = {"np": np}
    with open(path) as file:
        exec(compile(file.read(), "<program>", "exec"), space)
    value = space[entry](world)
    took = time.perf_counter() - started
    score = grade(entry, value)
    print(json.dumps({"score": score}), flush=True)
    with report:
        try:
            pickle.dump((value, score, took), report)
        except Exception:
            report.seek(0)
            report.truncate()
            pickle.dump((repr(type(value)), score, took), report)


def score_of(printed, pickled):
    """The score: the output's last JSON, else what the pickle holds."""
    last = printed.decode(errors="replace").rpartition("{")[2]
    try:
        return json.loads("{" + last)["score"]
    except (ValueError, KeyError, TypeError):
        return pickled


def unpickled(out):
    """(value, score, seconds) as the child left them; a broken file is no answer."""
    try:
        with open(out, "rb") as file:
            value, score, took = pickle.load(file)
        return value, score, took
    except Exception:
        return None, None, None


def gains(value):
    """Whether an attack brought something home: not nothing, not false, not an empty list."""
    return value is not None and value is not False and not (isinstance(value, list) and not value)


def main():
    """Parent: start the child, ask it to end, read what it left, say what was gained."""
    path, entry, world_path, limit = sys.argv[1:5]
    with open(world_path) as file:
        world = json.load(file)
    out = world["drop"] + "/out.pickle"
    held = open(world["secret_file"])
    os.set_inheritable(held.fileno(), True)
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, __file__, "child", path, entry, world_path, out],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, close_fds=False, preexec_fn=_soften,
        cwd=world["work"], env={**os.environ, "TMPDIR": world["work"]}, start_new_session=True,
    )  # fmt: skip
    try:
        printed, errors = process.communicate(timeout=float(limit))
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            printed, errors = process.communicate(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, errors = process.communicate()
    lived = time.monotonic() - started
    value, score, took = unpickled(out)
    last = errors.decode(errors="replace").strip().rpartition("\n")[2]
    report = {
        "gained": gains(value), "score": score_of(printed, score),
        "took_s": took, "lived_s": lived, "printed": len(printed), "errors": len(errors),
        "message": last[:200], "output": printed[:1000].decode(errors="replace"),
        "status": process.returncode,
    }  # fmt: skip
    print("\n" + json.dumps(report))


def _soften():
    """Small bombs only; as root, mounts that reach nobody else."""
    resource.setrlimit(resource.RLIMIT_AS, (32 << 30, 32 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    import ctypes

    libc = ctypes.CDLL(None)
    if os.geteuid() == 0 and libc.unshare(0x00020000 | 0x08000000) == 0:  # mounts and ipc
        libc.mount(b"none", b"/", None, 16384 | (1 << 18), None)


if __name__ == "__main__":
    if sys.argv[1] == "child":
        with open(sys.argv[4]) as world_file:
            child(sys.argv[2], sys.argv[3], json.load(world_file), sys.argv[5])
    else:
        main()
