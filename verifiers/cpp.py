"""C++20 in the sandbox: one compilation per program, behind the same walls as its runs.

The compiler reads hostile text (endless includes, template bombs, `.incbin`), so it gets limits
and the candidates' view of the machine: no network, no file of ours. What it makes is bytes.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import dataclass, replace

from eurekaflow.verifiers.problem import PrerequisiteAbsent
from eurekaflow.verifiers.sandbox import Cause, Execution, Job, Limits

SOURCE_BYTES = 512 << 10
FLAGS = (
    "-std=gnu++20", "-O2", "-march=native", "-mtune=native", "-DONLINE_JUDGE", "-DATCODER",
    "-fmax-errors=3", "-fdiagnostics-color=never", "-pipe", "-s",
)  # fmt: skip
LIMITS = Limits(
    wall_s=60.0, cpu_s=40.0, memory_bytes=2 << 30, result_bytes=32 << 20,
    scratch_bytes=128 << 20, processes=16,
)  # fmt: skip
_MAIN = re.compile(r"\bmain\s*\(")
FIX = "apt-get install g++"
COMPILE = """
def compile_program(source, flags):
    import base64, os, subprocess
    with open("program.cpp", "wb") as file:
        file.write(source.encode("utf-8", "surrogatepass"))
    command = ["g++", *flags, "-o", "program", "program.cpp"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    log = done.stdout[:4000].decode("utf-8", "replace")
    if done.returncode:
        return {"log": log or f"g++ ended with status {done.returncode}"}
    with open("program", "rb") as file:
        return {"log": log, "binary": base64.b64encode(file.read()).decode()}
"""


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """An executable, or the execution that tells why there is none."""

    binary: bytes = b""
    failure: Execution | None = None


def require_compiler() -> None:
    """Raises PrerequisiteAbsent where the sandbox would find no g++."""
    if shutil.which("g++", path="/usr/local/bin:/usr/bin:/bin") is None:
        raise PrerequisiteAbsent("this problem needs g++, which is not installed", FIX)


def job(source: str) -> Job:
    """The compilation of a program as a sandbox job, to be run within `LIMITS`."""
    arguments = {"source": source, "flags": list(FLAGS)}
    return Job(program=COMPILE, entry_point="compile_program", arguments=arguments)


def refused(source: str) -> str:
    """Why a source is not even compiled; "" when it may be."""
    size = len(source.encode("utf-8", "surrogatepass"))
    if size > SOURCE_BYTES:
        return f"the source has {size} bytes, allowed are {SOURCE_BYTES}"
    return "" if _MAIN.search(source) else "the source contains no main"


def read(execution: Execution) -> Compiled:
    """What a compilation brought."""
    if execution.cause is not Cause.RETURNED or execution.result is None:
        message = f"compilation: {execution.message}"
        return Compiled(failure=replace(execution, result=None, message=message))
    answer = json.loads(execution.result)
    if "binary" in answer:
        return Compiled(binary=base64.b64decode(answer["binary"]))
    return Compiled(failure=replace(_failed(answer["log"]), cpu_s=execution.cpu_s,
                                    wall_s=execution.wall_s, worker=execution.worker))  # fmt: skip


def _failed(log: str) -> Execution:
    errors = [line for line in log.splitlines() if "error" in line] or log.splitlines()[-1:]
    first = errors[0].removeprefix("program.cpp:") if errors else "no message"
    return Execution(
        cause=Cause.RAISED, message=f"compile error: {first[:300]}", stdout=log.encode()
    )
