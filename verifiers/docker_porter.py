"""The first process in a container: takes jobs from stdin to a zygote, executions to stdout.

It runs the process sandbox at level "container", so a candidate stands behind two walls: what the
engine set up around this process, and the filter, Landlock and limits that the zygote puts on each
candidate. Before anything else it looks at its own container and reports what really holds.
"""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import replace

from eurekaflow.verifiers import confine
from eurekaflow.verifiers import syscalls as sc
from eurekaflow.verifiers.docker_frames import (
    FrameError,
    decode,
    encode,
    job_of,
    pack,
    read_frame,
)
from eurekaflow.verifiers.process import ProcessSandbox
from eurekaflow.verifiers.sandbox import SandboxUnavailable

OPEN = ("/scratch", "/tmp", "/var/tmp", "/run", "/dev/shm")  # Podman and gVisor open the others
REQUEST_BYTES = 1 << 30
UNLIMITED = 1 << 60
ROOT = "/sys/fs/cgroup"
GROUPS = {  # name of the limit: its files, version 2 and version 1
    "memory": (f"{ROOT}/memory.max", f"{ROOT}/memory/memory.limit_in_bytes"),
    "pids": (f"{ROOT}/pids.max", f"{ROOT}/pids/pids.max"),
    "cpu": (f"{ROOT}/cpu.max", f"{ROOT}/cpu/cpu.cfs_quota_us"),
}


def main(memory: int, tasks: int, alone: int) -> None:
    """Report, then serve until stdin ends or the container is spent.

    `memory` in bytes and `tasks` are what the engine was asked to bound the container to. `alone`
    says that no other container has this user, whose processes the kernel can count then.
    """
    requests, replies = _take_pipes()
    sc.prctl(sc.PR_SET_DUMPABLE, 0)  # our /proc entries are root's from here on
    if alone:  # done here, since Podman's rootless engine drops the limits that it is given
        _bound_forks(tasks)
    layers = own_layers(memory, tasks)
    try:
        sandbox = ProcessSandbox(1, levels=(confine.CONTAINER,))
    except SandboxUnavailable as problem:
        _send(replies, encode(error=str(problem)))
        return
    with sandbox:
        _send(replies, encode(layers=[*layers, *sandbox.layers]))
        adopts = confine.proven(lambda: sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1) == 0)
        with contextlib.suppress(EOFError):
            while _serve_one(sandbox, requests, replies, adopts=adopts):
                pass


def _take_pipes() -> tuple[int, int]:
    """stdin and stdout on private descriptors: nothing else may write into the frames."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1):
        os.dup2(null, number)
    os.close(null)
    return requests, replies


def _serve_one(sandbox: ProcessSandbox, requests: int, replies: int, *, adopts: bool) -> bool:
    """One job; False when this container must not see another candidate.

    A zygote that `adopts` orphans ends them; where the kernel lets none (gVisor), the container's
    end does.
    """
    try:
        frame = read_frame(lambda count: _exactly(requests, count), most=REQUEST_BYTES)
        job, limits = job_of(decode(frame))
    except (FrameError, TypeError) as problem:
        _send(replies, encode(error=f"the request cannot be read: {problem}"))
        return False
    before = listing()
    try:
        execution = replace(sandbox.run(job, limits), worker="")
    except SandboxUnavailable as problem:
        _send(replies, encode(error=str(problem)))
        return False
    orphans = limits.processes > 1 and not adopts
    spent = orphans or listing() != before or sandbox.anomalies > 0
    _send(replies, encode(execution=execution, spent=spent))
    return not spent


def listing() -> list[tuple[str, str]]:
    """What lies in the folders that a candidate may find open."""
    return sorted(
        (path, name) for path in filter(os.path.isdir, OPEN) for name in os.listdir(path)
    )


def own_layers(memory: int, tasks: int) -> list[str]:
    """What the engine made of this container, each looked at and not assumed."""
    status = _status()
    most = {"memory": memory, "pids": tasks, "cpu": UNLIMITED}
    found = {
        "container": os.getpid() == 1,
        "no-network": _interfaces() <= {"lo"},
        "minimal-root": _refused_folder("/canary"),
        "no-capabilities": not any(
            int(status[f"Cap{kind}"], 16) for kind in ("Prm", "Eff", "Bnd")
        ),
        "engine-no-new-privs": status.get("NoNewPrivs") == "1",
        "engine-seccomp": status.get("Seccomp") == "2",
        "engine-user": os.geteuid() != 0,
        "rlimit-processes": confine.proven(lambda: _forks_are_bounded(tasks)),
        **{f"cgroup-{name}": limited(most[name], *files) for name, files in GROUPS.items()},
    }
    return [name for name, holds in found.items() if holds]


def _status() -> dict[str, str]:
    with open("/proc/self/status", encoding="ascii") as file:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}


def _interfaces() -> set[str]:
    with open("/proc/net/dev", encoding="ascii") as file:
        return {line.partition(":")[0].strip() for line in file if ":" in line}


def _refused_folder(path: str) -> bool:
    try:
        os.mkdir(path)
    except OSError:
        return True
    os.rmdir(path)
    return False


def limited(most: int, *files: str) -> bool:
    """A limit of at most that: a larger one is some outer group's, shared with others."""
    for name in files:
        with contextlib.suppress(OSError):
            with open(name, encoding="ascii") as file:
                word = file.read().split()[0]
            return word not in ("max", "-1") and int(word) <= most
    return False


def _bound_forks(tasks: int) -> None:
    _, ceiling = resource.getrlimit(resource.RLIMIT_NPROC)
    most = tasks if ceiling == resource.RLIM_INFINITY else min(tasks, ceiling)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def _forks_are_bounded(tasks: int) -> bool:
    """The limit is there, and a process of this user over it is refused: root would not be."""
    if not 0 <= resource.getrlimit(resource.RLIMIT_NPROC)[1] <= tasks:
        return False
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    try:
        child = os.fork()
    except BlockingIOError:
        return True
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return False


def _exactly(descriptor: int, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = os.read(descriptor, min(count - len(data), 1 << 20))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)


def _send(descriptor: int, data: bytes) -> None:
    view = memoryview(pack(data))
    while view:
        view = view[os.write(descriptor, view) :]
