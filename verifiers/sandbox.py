"""What a sandbox is: the protocol that every backend fulfils and the values that cross it.

The contract, for backends and for callers:

- `Sandbox.run` takes one `Job` and returns one `Execution`, whatever the candidate does. A
  candidate that crashes, hangs, floods its output or is killed is data: `Execution.cause` says so.
- Only a broken sandbox raises, and it raises `SandboxUnavailable`. It never looks like a bad
  candidate, and a bad candidate never looks like a broken sandbox.
- `run` is safe to call from many threads. Time limits start when the program starts, not when the
  call is queued; the two are reported apart.
- When `run` returns, nothing of the candidate is left: no process, file, mount or descriptor.
- The candidate sees no network, no environment, no secret, no other candidate and nothing of the
  verifier. What comes back is bytes of bounded size: the JSON of the entry point's return value
  (or its raw float64) for a Python job, the output of an executable. Nobody unpickles anything.

What no sandbox stops is a program that lies about its own result: the score is always recomputed
from the answer in another process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt


class SandboxUnavailable(RuntimeError):
    """The sandbox itself is broken or cannot be had here; the message names the fix."""


class Cause(StrEnum):
    """How an execution ended."""

    RETURNED = "returned"  # the entry point returned and its JSON is in `Execution.result`
    RAISED = "raised"  # an exception, SystemExit included; `message` holds its last line
    TIMEOUT = "timeout"  # wall-clock or CPU limit, killed with its whole tree
    MEMORY = "memory"  # the memory limit: MemoryError or the kernel's refusal
    KILLED = "killed"  # ended by a signal, a forbidden system call included
    NO_RESULT = "no_result"  # exited without a result, or with bytes that are no result
    TOO_LARGE = "too_large"  # result over `Limits.result_bytes`


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one execution may use."""

    wall_s: float = 10.0
    cpu_s: float = 10.0
    memory_bytes: int = 1 << 30  # address space; of an executable, what it touches
    result_bytes: int = 16 << 20
    stdout_bytes: int = 64 << 10  # the rest is dropped and counted
    scratch_bytes: int = 64 << 20  # private temporary folder, when the backend gives one
    processes: int = 1  # 1: the candidate cannot fork
    cpus: tuple[int, ...] = ()  # the only cores it may run on; empty: any


@dataclass(frozen=True, kw_only=True)
class Job:
    """One program to run. Python: `entry_point(**arguments)` after executing `program`.

    `prelude` is trusted source executed in the program's namespace first; `arrays` are bound there
    by name as fresh float64 arrays (the parent's construction); `np` is always bound. Of
    `arguments` those are passed that the entry point's signature accepts. `random` and
    `numpy.random` are seeded with `seed` before the program starts.

    With an `executable` the job is that file instead, with `stdin` as its standard input. It may
    use threads and replace itself, but never fork; its whole standard output is the result, and
    an exit status other than 0 counts as raised. Needs a backend with a private temporary folder.
    """

    program: str = ""
    entry_point: str = ""
    prelude: str = ""
    arrays: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()  # names of arrays that are also passed by position
    arguments: Mapping[str, object] = field(default_factory=dict)  # JSON values
    returns: Literal["json", "array"] = "json"  # array: one real matrix, as raw float64
    seed: int = 0
    executable: bytes = b""
    stdin: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What came back from one job."""

    cause: Cause
    result: bytes | None = None  # JSON or an executable's output; only when `cause` is RETURNED
    message: str = ""  # one line: the exception, the signal, the limit
    stdout: bytes = b""  # the first part (stdout and stderr), at most `Limits.stdout_bytes`
    stdout_dropped: int = 0  # bytes
    queue_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    max_rss_bytes: int = 0
    worker: str = ""
    earlier: tuple[Execution, ...] = ()  # a timeout on a loaded host that made this the second run


class Sandbox(Protocol):
    """Runs candidates; see the module's contract."""

    @property
    def name(self) -> str: ...

    @property
    def layers(self) -> tuple[str, ...]:
        """The protections active here, each proven on a canary ("userns", "seccomp", ...)."""

    def run(self, job: Job, limits: Limits) -> Execution: ...

    def close(self) -> None: ...
