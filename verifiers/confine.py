"""Confines a freshly forked candidate, in the one order that works, and proves each layer.

Three levels. "namespaces": minimal root, own pid/mount/ipc namespaces, private /tmp, Landlock
where the kernel has it, system-call filter, limits. "landlock": no user namespace; Landlock,
filter and limits, and no writable folder at all. "container": inside a container whose engine has
made the namespaces, the read-only root and the limits on the whole tree; filter, limits, Landlock
where the kernel has it, and one folder that is emptied afterwards. "none" keeps the limits only.

Not stopped by either: a program that lies about its result, and CPU caches as side channels.

Standard library only: the zygote imports this file in an interpreter without site-packages.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eurekaflow.verifiers import landlock, namespaces, seccomp
from eurekaflow.verifiers import syscalls as sc

NAMESPACES, LANDLOCK, CONTAINER, NONE = "namespaces", "landlock", "container", "none"
THREADS = 64  # a candidate's own threads count as processes of its uid
OPEN_FILES = 128
DEVICES = tuple(f"/dev/{name}" for name in namespaces.DEVICES)


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """What every candidate of one zygote gets; the limits come with the job."""

    level: str
    baseline_bytes: int  # address space of the zygote itself
    landlock: bool
    rules: int | None  # Landlock ruleset made once, where no private root hides the rest
    own_pid_namespace: int | None  # descriptor of the zygote's own
    proc: int  # descriptor of the host's /proc; closed before the program starts
    scratch: str = "/tmp"
    masked: Sequence[str] = ()  # folders that a candidate must find empty and closed
    grouped: bool = False  # in a control group, which counts the threads of this zygote alone
    read_search: bool = False  # the interpreter lies under a folder closed to others


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """The limits of one candidate, as they cross from the host."""

    wall_s: float
    cpu_s: float
    memory_bytes: int
    scratch_bytes: int
    processes: int
    execute: bool = False  # one executable file, which may replace itself but never fork
    cpus: Sequence[int] = ()


def confine(setting: Confinement, allowance: Allowance) -> None:
    """In the candidate's process, before any of its code: never to be undone. Raises OSError."""
    os.setsid()
    private_root = setting.level == NAMESPACES
    if private_root:
        namespaces.enter_candidate(setting.scratch, scratch_bytes=allowance.scratch_bytes)
    elif setting.level != NONE:
        os.chdir(setting.scratch if setting.level == CONTAINER else "/")
    _first_to_be_killed(setting.proc)
    if allowance.cpus:  # the filter keeps it there
        os.sched_setaffinity(0, allowance.cpus)
    rules = _ruleset(setting)
    limit_resources(setting, allowance)
    if setting.level == NONE:
        return
    if private_root:
        sc.keep_capability(None)
    else:
        _drop_root(setting)
        sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)  # no namespace ends it with the zygote
    sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
    if rules is not None:
        landlock.enter(rules)
    seccomp.install(
        seccomp.assemble(
            processes=allowance.processes,
            execute=allowance.execute,
            private_root=setting.level != LANDLOCK,
            pid=None if private_root else os.getpid(),
        )
    )


def _drop_root(setting: Confinement) -> None:
    """Become nobody. A Python under root's own home stays importable through one capability, whose
    reach Landlock cuts down to the folders of Python."""
    if os.geteuid() != 0:
        return
    sc.prctl(sc.PR_SET_KEEPCAPS, 1 if setting.read_search else 0)
    namespaces.drop_to_nobody()
    for kept in (sc.CAP_DAC_READ_SEARCH, sc.CAP_DAC_OVERRIDE) if setting.read_search else ():
        with contextlib.suppress(OSError):  # containers often grant only the second
            sc.keep_capability(kept)
            return
    sc.keep_capability(None)


def _first_to_be_killed(proc: int) -> None:
    """When the machine runs out of memory, the candidate goes before the zygote and the run."""
    with contextlib.suppress(OSError):
        namespaces.write_self(proc, "oom_score_adj", "1000")


def _ruleset(setting: Confinement) -> int | None:
    if setting.level == NAMESPACES and setting.landlock:
        return landlock.prepare(read=("/",), write=(setting.scratch, *DEVICES))
    return setting.rules


def limit_resources(setting: Confinement, allowance: Allowance) -> None:
    """Limits on address space (beyond the zygote's own), CPU, files, cores and threads."""
    hard = {
        resource.RLIMIT_AS: setting.baseline_bytes + allowance.memory_bytes,
        resource.RLIMIT_CPU: max(1, math.ceil(allowance.cpu_s)),
        resource.RLIMIT_FSIZE: allowance.scratch_bytes,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    if setting.level != CONTAINER:  # gVisor knows no such limit; the filter closes queues anyway
        hard[resource.RLIMIT_MSGQUEUE] = 0
    if setting.level == NAMESPACES:
        hard[resource.RLIMIT_NPROC] = allowance.processes + THREADS
    elif setting.level != CONTAINER and (allowance.processes > 1 or not setting.grouped):
        # Here the kernel counts every process of the user.
        hard[resource.RLIMIT_NPROC] = _tasks() + allowance.processes + THREADS
    for kind, wanted in hard.items():
        _, ceiling = resource.getrlimit(kind)
        value = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
        resource.setrlimit(kind, (value, value))


def _tasks() -> int:
    """Threads on this machine of the user that the candidate will be."""
    uid, count = os.geteuid() or namespaces.NOBODY, 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == uid:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def proven(attempt: Callable[[], bool]) -> bool:
    """Whether `attempt` holds when really tried, in a child that is thrown away."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if attempt() else 1)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _refused(attempt: Callable[[], object], *codes: int) -> bool:
    try:
        attempt()
    except OSError as problem:
        return problem.errno in codes
    return False


def landlock_holds() -> bool:
    """Landlock alone keeps a readable file from being opened and a folder from being written."""
    rules = landlock.prepare(read=("/usr",))
    if rules is None:
        return False
    sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
    landlock.enter(rules)
    return _refused(lambda: os.open("/dev/null", os.O_RDONLY), errno.EACCES) and _refused(
        lambda: os.mkdir("/tmp/eurekaflow-canary"), errno.EACCES, errno.EROFS
    )


def seccomp_holds() -> bool:
    """The filter alone keeps sockets, forks, new namespaces and keys away."""
    sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install(seccomp.assemble(processes=1, private_root=False, pid=os.getpid()))
    attempts: Sequence[Callable[[], object]] = (
        lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        os.fork,
        lambda: sc.unshare(sc.CLONE_NEWUSER),
        lambda: sc.call("keyctl", 0, -3, 0),
        lambda: os.chmod("/", 0o755),
        lambda: os.kill(os.getppid(), 0),
        lambda: os.getsid(os.getppid()),
        lambda: sc.call("inotify_init1", 0),
    )
    return all(_refused(attempt, errno.EPERM) for attempt in attempts)


def limits_hold(setting: Confinement) -> bool:
    """The address-space limit really refuses memory."""
    tiny = Allowance(wall_s=1, cpu_s=1, memory_bytes=1 << 26, scratch_bytes=1 << 20, processes=1)
    limit_resources(setting, tiny)
    try:
        bytearray(1 << 28)
    except MemoryError:
        return resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    return False


def candidate_holds(setting: Confinement) -> bool:
    """A fully confined child is nobody, in its own session, and sees and writes only its own."""
    confine(setting, Allowance(wall_s=1, cpu_s=1, memory_bytes=1 << 26, scratch_bytes=1 << 20,
                               processes=1))  # fmt: skip
    refused = (errno.EACCES, errno.EPERM, errno.EROFS)
    alike = (
        os.geteuid() != 0
        and os.getsid(0) == os.getpid()
        and sc.prctl(sc.PR_GET_NO_NEW_PRIVS) == 1
        and _refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM), errno.EPERM)
        and _refused(lambda: os.mkdir("/canary"), *refused)
        and _refused(lambda: os.mkdir("/usr/canary"), *refused)
        and all(
            _refused(lambda: os.mkdir(f"{path}/canary"), *refused)  # noqa: B023
            for path in setting.masked
            if os.path.isdir(path)
        )
    )
    if setting.level in (NAMESPACES, CONTAINER):
        os.mkdir(f"{setting.scratch}/canary")
    if setting.level == NAMESPACES:
        return alike and os.getpid() == 1 and not os.path.exists("/proc/self")
    if setting.level == CONTAINER and not setting.landlock:
        return alike
    opened = _refused(lambda: os.open("/etc/passwd", os.O_RDONLY), *refused)
    return alike and opened and _refused(lambda: os.mkdir("/tmp/canary"), *refused)
