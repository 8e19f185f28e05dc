"""One candidate inside a zygote: fork it, confine it, run it, time it, and leave nothing of it.

Standard library only: the zygote imports this file in an interpreter without site-packages.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import time
from typing import Any, NoReturn

from eurekaflow.verifiers import confine, namespaces

SETUP_S = 30.0  # a child that is not confined by then is the host's fault, not the candidate's
SWEEP_S = 5.0
POLL_S = 0.005
READY, FAILED = b"R", b"F"
RESULT, STATUS = 3, 4  # the candidate's descriptors; STATUS closes before its program starts


def run(
    control: socket.socket,
    setting: confine.Confinement,
    request: dict[str, Any],
    *,
    pipes: list[int],
    stub: Any,
) -> dict[str, Any]:
    """Run one candidate to its end and say how it ended; takes the `pipes` over."""
    allowance = confine.Allowance(**request["allowance"])
    status, ready = os.pipe()
    if setting.own_pid_namespace is not None:
        namespaces.next_child_is_pid_one(setting.own_pid_namespace)
    child = os.fork()
    if child == 0:
        _become(
            setting, allowance, pipes=pipes, ready=ready, stub=stub, size=request["result_bytes"]
        )
    for descriptor in (*pipes, ready):
        os.close(descriptor)
    try:
        return _supervise(control, setting, child, status=status, wall_s=allowance.wall_s)
    finally:
        os.close(status)


def _become(
    setting: confine.Confinement,
    allowance: confine.Allowance,
    *,
    pipes: list[int],
    ready: int,
    stub: Any,
    size: int,
) -> NoReturn:
    """In the fork: read the job, be confined, say so, run."""
    try:
        job, result, output = pipes
        header, arrays = stub.read_job(job)
        confine.confine(setting, allowance)
        _arrange_descriptors(result, output, ready)
        stub.open_output()
        os.write(STATUS, READY)
        os.close(STATUS)
    except BaseException as problem:
        with contextlib.suppress(OSError):
            os.write(ready, FAILED + f"{type(problem).__name__}: {problem}".encode())
        os._exit(1)
    stub.run(header, arrays, result=RESULT, result_bytes=size)
    os._exit(1)


def _arrange_descriptors(result: int, output: int, ready: int) -> None:
    """0 null, 1 and 2 output, 3 result, 4 status, and nothing else."""
    sources = [os.open("/dev/null", os.O_RDONLY), output, output, result, ready]
    while any(source < len(sources) for source in sources):  # out of the way of the targets
        sources = [os.dup(source) if source < len(sources) else source for source in sources]
    for target, source in enumerate(sources):
        os.dup2(source, target, inheritable=target < RESULT)
    os.closerange(len(sources), confine.OPEN_FILES)


def _supervise(
    control: socket.socket, setting: confine.Confinement, child: int, *, status: int, wall_s: float
) -> dict[str, Any]:
    """Wait with the clock started by the ready byte; then kill whatever is left of the tree."""
    handles = handles_of(child)
    setup = _first_bytes(status)
    started = time.monotonic()
    ended_by = wait(control, child, handles, wall_s) if setup == READY else "setup"
    wall = time.monotonic() - started
    os.kill(child, signal.SIGKILL)  # pid 1 of its namespace takes everything with it
    _, code, usage = os.wait4(child, 0)
    for handle in handles:
        os.close(handle)
    if setting.own_pid_namespace is None:
        sweep_orphans(setting.proc)
    if setting.level == confine.CONTAINER:
        with contextlib.suppress(OSError, RecursionError):  # the container is replaced then
            empty(setting.scratch)
    if ended_by == "gone":
        os._exit(0)
    return {
        "setup": setup.decode(errors="replace"),
        "ended_by": ended_by,
        "exit": os.waitstatus_to_exitcode(code),
        "wall_s": wall,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "max_rss_bytes": usage.ru_maxrss * 1024,
    }


def empty(folder: str) -> None:
    """Remove everything in `folder`, which the zygote's own user owns; raises OSError."""
    for entry in os.scandir(folder):
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)
            continue
        os.chmod(entry.path, 0o700)
        empty(entry.path)
        os.rmdir(entry.path)


def _first_bytes(status: int) -> bytes:
    readable, _, _ = select.select([status], [], [], SETUP_S)
    return os.read(status, 4096) if readable else b""


def handles_of(child: int) -> list[int]:
    """A descriptor that tells of its end; none where the kernel has no such thing (gVisor)."""
    try:
        return [os.pidfd_open(child)]
    except OSError as problem:
        if problem.errno != errno.ENOSYS:
            raise
        return []


def wait(control: socket.socket, child: int, handles: list[int], wall_s: float) -> str:
    """What ended it: "exit", "wall", "asked" by the host, or the host is "gone"."""
    other, deadline = control.fileno(), time.monotonic() + wall_s
    while True:
        left = max(0.0, deadline - time.monotonic())
        pause = left if handles else min(left, POLL_S)
        readable, _, _ = select.select([*handles, other], [], [], pause)
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return "exit"
        if other in readable:
            return "asked" if control.recv(16) else "gone"
        if not left:
            return "wall"


def sweep_orphans(proc: int) -> None:
    """Without a pid namespace: kill and reap every descendant, re-parented ones included."""
    deadline = time.monotonic() + SWEEP_S
    while time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            for child in _children(proc):
                os.kill(child, signal.SIGKILL)
            time.sleep(0.001)
    raise OSError("descendants of a candidate could not be killed")


def _children(proc: int) -> list[int]:
    found = []
    listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
    names = [name for name in os.listdir(listing) if name.isdigit()]
    for name in names:
        with contextlib.suppress(OSError):
            descriptor = os.open(f"{name}/stat", os.O_RDONLY, dir_fd=proc)
            with os.fdopen(descriptor) as file:
                parent = file.read().rpartition(")")[2].split()[1]
            found += [int(name)] if int(parent) == os.getpid() else []
    os.close(listing)
    return found
