"""Runs one program inside its confined process and writes its answer down the result pipe.

The answer is one letter and bytes: R and the JSON of the return value, E and an exception's
line, M for memory, L when the JSON is too large. A candidate shares this interpreter and can
forge all of it; the host therefore treats it as data. A job may ask for its matrix as raw float64
(`pack`) instead of JSON, ten times smaller and exact. numpy and the standard library only.
"""

from __future__ import annotations

import inspect
import io
import json
import linecache
import math
import os
import random
import resource
import signal
import struct
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

RETURNED, RAISED, MEMORY, TOO_LARGE = b"R", b"E", b"M", b"L"
MESSAGE_CHARACTERS = 500
STACK_BYTES = 256 << 20  # of an executable; contest sites are as generous
MODULE, FILENAME = "program", "<program>"
HEADER = struct.Struct("=Q")
ARRAY = b"\x93f8"  # no JSON begins so; number and sizes of dimensions follow


def read_job(descriptor: int) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """The job's header and its arrays, from `HEADER` + JSON + raw float64 data."""
    with os.fdopen(descriptor, "rb") as pipe:
        (length,) = HEADER.unpack(pipe.read(HEADER.size))
        header: dict[str, Any] = json.loads(pipe.read(length))
        arrays = {}
        for name, shape in header.pop("arrays"):
            data = pipe.read(8 * math.prod(shape))
            arrays[name] = np.frombuffer(data, dtype=np.float64).reshape(shape).copy()
        header["executable"], header["stdin"] = (pipe.read(size) for size in header.pop("files"))
    return header, arrays


def open_output() -> None:
    """Python's output on descriptors 1 and 2, flushed by line so that a kill loses none."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        raw = open(number, "wb", buffering=8192, closefd=False)  # noqa: SIM115
        text = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace",
                                line_buffering=True)  # fmt: skip
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)


def run(
    job: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray[Any, Any]],
    *,
    result: int,
    result_bytes: int,
) -> None:
    """Execute the job and answer on the descriptor `result`; never returns."""
    leave, write = os._exit, _write_all
    try:
        if job["executable"]:
            _become(job["executable"], job["stdin"], result)
        payload = RETURNED + _call(job, arrays)
        if len(payload) - 1 > result_bytes:
            payload = TOO_LARGE + str(len(payload) - 1).encode()
    except MemoryError:
        payload = MEMORY
    except BaseException as raised:
        payload = RAISED + _describe(raised)
    _flush()
    write(result, payload)
    leave(0)


def _call(job: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    random.seed(job["seed"])
    np.random.seed(job["seed"] % 2**32)
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module  # dataclasses and pickle look a class's module up
    space = module.__dict__
    space["np"] = np
    space.update(arrays)
    _execute(job["prelude"], "<prelude>", space)
    _execute(job["program"], FILENAME, space)
    entry = space.get(job["entry_point"])
    if not callable(entry):
        raise NameError(f"the program defines no function {job['entry_point']!r}")
    inputs = [arrays[name] for name in job["inputs"]]
    value = entry(*inputs, **accepted(entry, job["arguments"], skip=len(inputs)))
    if job["returns"] == "array":
        return pack(value)
    return json.dumps(to_json(value), separators=(",", ":")).encode()


def _become(executable: bytes, given: bytes, result: int) -> NoReturn:
    """Replace this interpreter by a file: its output is the result, its errors the output."""
    for name, content in (("program", executable), ("input", given)):
        with open(name, "xb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o500)
    descriptor = os.open("input", os.O_RDONLY)
    os.unlink("input")
    os.dup2(descriptor, 0)
    os.dup2(result, 1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and that is inherited
        signal.signal(number, signal.SIG_DFL)
    _, most = resource.getrlimit(resource.RLIMIT_STACK)
    stack = STACK_BYTES if most == resource.RLIM_INFINITY else min(STACK_BYTES, most)
    resource.setrlimit(resource.RLIMIT_STACK, (stack, most))
    os.write(result, RETURNED)
    os.execve("program", ["program"], {"PATH": "/usr/bin:/bin"})


def _execute(source: str, filename: str, space: dict[str, Any]) -> None:
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec", dont_inherit=True), space)


def accepted(
    entry: Callable[..., object], arguments: Mapping[str, Any], *, skip: int = 0
) -> dict[str, Any]:
    """Those arguments that the entry point's signature takes by name, after `skip` by position."""
    try:
        parameters = list(inspect.signature(entry).parameters.values())[skip:]
    except (TypeError, ValueError):
        return {}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(arguments)
    named = {
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    return {name: value for name, value in arguments.items() if name in named}


def pack(value: Any) -> bytes:
    """A matrix as `ARRAY`, its shape and raw float64; TypeError for what has no honest form."""
    if hasattr(value, "toarray"):  # scipy's sparse matrices
        value = value.toarray()
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError("a masked array is no answer; return a plain array")
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"cannot return an array of {array.dtype}; return real numbers")
    data = np.ascontiguousarray(array, dtype="<f8")
    return ARRAY + struct.pack(f"<B{data.ndim}Q", data.ndim, *data.shape) + data.tobytes()


def to_json(value: Any) -> Any:
    """The value as JSON types, floats exact; TypeError for what has no honest JSON form.

    Masked arrays are refused: checks that skip masked cells have accepted impossible answers.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        return {_key(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [to_json(item) for item in value]
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError("a masked array is no answer; return a plain list or array")
    if isinstance(value, np.ndarray):
        return to_json(np.asarray(value).tolist())
    return _scalar_to_json(value)


def _scalar_to_json(value: Any) -> Any:
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, (complex, np.complexfloating)) or not hasattr(value, "__float__"):
        raise TypeError(f"cannot return {type(value).__name__}; return numbers, lists or arrays")
    return float(value)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, (int, float, np.integer, np.floating)):
        return json.dumps(to_json(key))
    raise TypeError(f"a dictionary key must be a string or number, not {type(key).__name__}")


def _describe(raised: BaseException) -> bytes:
    """The exception's last line with the program's line number; the traceback goes to stderr."""
    try:
        traceback.print_exception(type(raised), raised, _beyond_stub(raised), limit=-8)
    except BaseException:
        print(f"{type(raised).__name__} (its traceback cannot be printed)", file=sys.stderr)
    try:
        text = traceback.format_exception_only(raised)[-1].strip()
    except BaseException:
        text = type(raised).__name__
    return (text[:MESSAGE_CHARACTERS] + _where(raised)).encode(errors="backslashreplace")


def _beyond_stub(raised: BaseException) -> types.TracebackType | None:
    """The traceback from the first frame that is not ours."""
    trace, ours = raised.__traceback__, _describe.__code__.co_filename
    while trace is not None and trace.tb_frame.f_code.co_filename == ours:
        trace = trace.tb_next
    return trace


def _where(raised: BaseException) -> str:
    lines = [
        line for frame, line in traceback.walk_tb(raised.__traceback__)
        if frame.f_code.co_filename == FILENAME
    ]  # fmt: skip
    if isinstance(raised, SyntaxError):
        lines.append(raised.lineno or 0)
    return f" (line {lines[-1]})" if lines else ""


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            continue


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
