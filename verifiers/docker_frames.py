"""Jobs and executions as bytes on the stream between the host and a container: JSON in frames.

A frame is an 8-byte length and that many bytes, bounded by the reader. Values are rebuilt field by
field into the frozen classes of `sandbox`; nothing is unpickled. What comes out of a container is
checked like any candidate's bytes: `FrameError` says why it was refused.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits

LENGTH = struct.Struct(">Q")
BYTES, ARRAY = "$bytes", "$array"


class FrameError(RuntimeError):
    """The other side sent something that is no frame of ours, or too large a one."""


def pack(data: bytes) -> bytes:
    """`data` as one frame."""
    return LENGTH.pack(len(data)) + data


def read_frame(exactly: Callable[[int], bytes], *, most: int) -> bytes:
    """The next frame; `exactly(count)` reads that many bytes. Raises FrameError over `most`."""
    (length,) = LENGTH.unpack(exactly(LENGTH.size))
    if length > most:
        raise FrameError(f"a frame of {length} bytes, allowed are {most}")
    return exactly(length)


def encode(**values: object) -> bytes:
    """Values of JSON types, bytes, arrays and our frozen classes, as JSON."""
    return json.dumps(values, default=_tagged).encode()


def _tagged(value: object) -> object:
    if isinstance(value, bytes):
        return {BYTES: base64.b85encode(value).decode()}
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value, np.float64)
        return {ARRAY: data.shape, BYTES: base64.b85encode(data.tobytes()).decode()}
    if isinstance(value, Job | Limits | Execution):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot cross to a container")


def decode(data: bytes) -> dict[str, Any]:
    """The inverse of `encode`, classes as plain dictionaries. Raises FrameError."""
    try:
        values = json.loads(data, object_hook=_untagged)
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise FrameError(f"a frame that cannot be read: {type(problem).__name__}") from None
    if not isinstance(values, dict):
        raise FrameError("a frame that holds no object")
    return values


def _untagged(value: dict[str, Any]) -> object:
    if BYTES not in value:
        return value
    data = base64.b85decode(value[BYTES])
    if ARRAY in value:
        return np.frombuffer(data, np.float64).reshape(value[ARRAY]).copy()
    return data


def job_of(values: dict[str, Any]) -> tuple[Job, Limits]:
    """The job and limits of a request."""
    limits = {**values["limits"], "cpus": tuple(values["limits"]["cpus"])}
    return Job(**values["job"]), Limits(**limits)


def execution_of(values: dict[str, Any], limits: Limits) -> Execution:
    """The execution in a reply; FrameError unless it keeps to its types and `limits`."""
    try:
        given = values["execution"]
        execution = Execution(**{**given, "cause": Cause(given["cause"]), "earlier": ()})
    except (KeyError, TypeError, ValueError) as problem:
        raise FrameError(f"a reply that is no execution: {problem}") from None
    result, stdout = execution.result, execution.stdout
    typed = isinstance(result, bytes | None) and isinstance(stdout, bytes)
    if not typed or (execution.cause is Cause.RETURNED) != (result is not None):
        raise FrameError("a reply whose result does not fit its cause")
    if len(result or b"") > limits.result_bytes or len(stdout) > limits.stdout_bytes:
        raise FrameError("a reply over its limits")
    return execution


def most_bytes(limits: Limits) -> int:
    """An upper bound on an honest reply's frame."""
    return (limits.result_bytes + limits.stdout_bytes) * 5 // 4 + (1 << 16)
