"""One verifier worker: reads answers from stdin, writes verdicts to stdout. Trusted code only.

Run as `python -m eurekaflow.verifiers.judge_worker` with an empty environment. It never imports
or executes a candidate's code: what it gets is the JSON that a sandbox let out, or text. It limits
its own address space and, anew for each answer, its CPU time.

A frame is an 8-byte big-endian length and bytes. A request is a JSON header frame, answered by a
frame that is empty once the problem is loaded (else it says why it is not), and a payload frame. A
reply is a JSON header frame and a frame of raw float64 (the construction, may be empty).
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy starts a thread per core
os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import math
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO

import numpy as np

from eurekaflow.verifiers.answers import array, parse
from eurekaflow.verifiers.lookup import load
from eurekaflow.verifiers.problem import (
    EXACT,
    TRAINING,
    VERIFY,
    InvalidAnswer,
    Judgement,
    Outcome,
    Problem,
    ProvenBoundBroken,
)
from eurekaflow.verifiers.stub import ARRAY

LENGTH = struct.Struct(">Q")
LIMITS_EXCEEDED = "verification exceeded its limits"
_MESSAGE_CHARACTERS = 500
_LOAD_CPU_S = 60.0  # importing what a problem needs is not the answer's time
_FILE_BYTES = 64 << 20


def read_frame(stream: BinaryIO) -> bytes:
    """The next frame; raises EOFError when the stream ends."""
    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    return _exactly(stream, length)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def write_frame(stream: BinaryIO, data: bytes) -> None:
    """Send one frame."""
    stream.write(LENGTH.pack(len(data)))
    stream.write(data)


def main(memory_bytes: int, cpu_s: float) -> None:
    """Serve until stdin ends."""
    requests, replies = _take_pipes()
    _limit(memory_bytes)
    sys.set_int_max_str_digits(0)  # exact values are long; answers are bounded by their parser
    write_frame(replies, b"ready")
    replies.flush()
    while True:
        try:
            header = json.loads(read_frame(requests))
            _limit_cpu(_LOAD_CPU_S)
            problem, trouble = _load(header["problem"], header["service"])
            write_frame(replies, trouble.encode())
            replies.flush()
            payload = read_frame(requests)
        except EOFError:
            return
        if problem is None:
            continue
        _limit_cpu(cpu_s)
        reply, numbers = _answer(problem, header, payload)
        write_frame(replies, json.dumps(reply).encode())
        write_frame(replies, numbers)
        replies.flush()


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes on private descriptors: what a problem file prints must not corrupt them."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return requests, replies


def _limit(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides when to stop


def _limit_cpu(cpu_s: float) -> None:
    """The soft limit counts from the process's start, so it moves with every answer."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + cpu_s)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _load(spec: str, service: str) -> tuple[Problem | None, str]:
    """The problem, ready to judge, or why there is none."""
    try:
        problem = load(spec)
        if problem.service:
            problem.attach(service)
        prepare = getattr(problem, "prepare", None)
        if prepare is not None:
            prepare()
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"[:_MESSAGE_CHARACTERS]
    return problem, ""


def _answer(
    problem: Problem, header: dict[str, Any], payload: bytes
) -> tuple[dict[str, Any], bytes]:
    try:
        answer = _read(problem, payload) if header["json"] else _text(payload)
        judgement, mode = _measured(problem, answer, header["mode"])
        reward = problem.baseline_reward if header["baseline"] else problem.reward
        reply, numbers = _valid(judgement, reward)
        return {**reply, "mode": mode}, numbers
    except ProvenBoundBroken as error:
        return _failed(Outcome.EXPLOIT, f"alert: beyond a proven bound: {error}"), b""
    except InvalidAnswer as error:
        return _failed(Outcome.INVALID, str(error)), b""
    except MemoryError:
        return _failed(Outcome.INVALID, LIMITS_EXCEEDED), b""
    except Exception as error:  # a verifier that trips over an answer does not accept it
        message = f"the verifier failed on this answer: {type(error).__name__}: {error}"
        return _failed(Outcome.INVALID, message), b""


def _measured(problem: Problem, answer: object, mode: str) -> tuple[Judgement, str]:
    """The judgement and its mode; what beats the record is measured exactly at once."""
    judgement, record = problem.measure(answer, mode=mode), problem.record(mode=mode)
    beyond = record is not None and judgement.value > problem.value(record.score)
    if mode not in (TRAINING, VERIFY) or not beyond or EXACT not in problem.modes:
        return judgement, mode
    return problem.measure(answer, mode=EXACT), EXACT


def _read(problem: Problem, payload: bytes) -> object:
    if problem.returns == "array" and payload.startswith(ARRAY):
        return array(payload)
    return parse(payload)


def _text(payload: bytes) -> str:
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidAnswer(f"the answer is not UTF-8 text: {error.reason}") from None


def _valid(judgement: Judgement, reward: Any) -> tuple[dict[str, Any], bytes]:
    value, earned = float(judgement.value), float(reward(judgement.value))
    if not (math.isfinite(value) and math.isfinite(earned)):
        raise InvalidAnswer(f"the score {value} or its reward {earned} is not finite")
    metrics = {k: float(v) for k, v in judgement.metrics.items() if math.isfinite(v)}
    reply = {"outcome": Outcome.VALID, "value": value, "reward": earned, "metrics": metrics}
    if judgement.exact is not None:
        reply["exact"] = str(judgement.exact)
    if judgement.construction is None:
        return reply, b""
    numbers = np.ascontiguousarray(judgement.construction, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise InvalidAnswer("the construction is not finite")
    return {**reply, "shape": numbers.shape}, numbers.tobytes()


def _failed(outcome: Outcome, message: str) -> dict[str, Any]:
    line = " ".join(message.split())
    return {"outcome": outcome, "message": line[:_MESSAGE_CHARACTERS]}


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
