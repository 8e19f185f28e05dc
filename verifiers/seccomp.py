"""The system-call filter of a candidate, assembled as classic BPF.

Stops: sockets, other processes' memory and signals, new namespaces, mounts, kernel keys, BPF,
io_uring and the older asynchronous calls (their requests are counted for the whole machine),
watching files, file locks, userfaultfd, anonymous executable files, System V memory outside every
limit, terminal injection, and, unless asked for, new processes (with them come socket pairs).
Without a pid namespace, questions about other processes too. Calls newer than the table are
answered ENOSYS.
Does not stop: reading and writing files (that is the mount namespace's and Landlock's part).

Standard library only: the zygote imports this file in an interpreter without site-packages.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

from eurekaflow.verifiers import syscalls as sc

ALLOW, KILL = 0x7FFF0000, 0x80000000
LOAD, JUMP_EQUAL, JUMP_GREATER, JUMP_SET, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
NUMBER_AT, ARCH_AT, ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data

NEW_NAMESPACES = (
    sc.CLONE_NEWNS | sc.CLONE_NEWUTS | sc.CLONE_NEWIPC | sc.CLONE_NEWUSER | sc.CLONE_NEWPID
    | sc.CLONE_NEWNET | sc.CLONE_NEWCGROUP
)  # fmt: skip
TERMINAL_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
FCNTL_DENIED = (8, 10, 15, 1024, 1026)  # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY
FCNTL_LOCKS = (6, 7, 37, 38)  # F_SETLK, F_SETLKW and the same of open files

DENIED = """
accept acct add_key adjtimex bind bpf chroot clock_adjtime clock_settime connect delete_module
execveat fanotify_init fanotify_mark finit_module flock fsconfig fsmount fsopen fspick init_module
inotify_add_watch inotify_init inotify_init1 io_cancel io_destroy io_getevents io_pgetevents
io_setup io_submit io_uring_enter io_uring_register io_uring_setup ioperm iopl ioprio_set kcmp
kexec_file_load kexec_load keyctl listen listmount lookup_dcookie memfd_create memfd_secret
migrate_pages modify_ldt mount mount_setattr move_mount move_pages mq_open mq_unlink msgctl msgget
msgrcv msgsnd name_to_handle_at nfsservctl open_by_handle_at open_tree perf_event_open personality
pidfd_getfd pidfd_open pidfd_send_signal pivot_root process_madvise process_mrelease
process_vm_readv process_vm_writev ptrace quotactl quotactl_fd reboot request_key rt_sigqueueinfo
rt_tgsigqueueinfo sched_setaffinity sched_setattr sched_setparam sched_setscheduler semctl semget
semop semtimedop setdomainname sethostname setns setpriority settimeofday shmat shmctl shmdt shmget
socket socketpair statmount swapoff swapon syslog umount2 unshare uselib userfaultfd vhangup
"""
# Landlock does not cover metadata (nor truncation before ABI 3): denied without a private root.
METADATA = """
chmod chown fchmod fchmodat fchmodat2 fchown fchownat fremovexattr fsetxattr ftruncate futimesat
lchown lremovexattr lsetxattr removexattr setxattr truncate utime utimensat utimes
"""
# Of another process: whether it is there, its session, its group, how and where it runs.
QUESTIONS = """
get_robust_list getpgid getsid sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval
"""
NEW_PROCESSES = ("fork", "vfork")
AF_UNIX = 1

Instruction = tuple[int, int, int, int]


def fail(code: int) -> Instruction:
    return (RETURN, 0, 0, 0x00050000 | code)


def _allow() -> Instruction:
    return (RETURN, 0, 0, ALLOW)


def _when(name: str, body: list[Instruction]) -> list[Instruction]:
    """`body` for that call only; the body must end in a return (it replaces the loaded number)."""
    number = sc.number(name)
    return [] if number is None else [(JUMP_EQUAL, 0, len(body), number), *body]


def _argument(index: int) -> Instruction:
    return (LOAD, 0, 0, ARGUMENTS_AT + 8 * index)  # low word, little endian


def _deny(names: list[str] | tuple[str, ...]) -> list[Instruction]:
    return [step for name in names for step in _when(name, [fail(errno.EPERM)])]


def _deny_values(name: str, index: int, values: tuple[int, ...]) -> list[Instruction]:
    tests = [step for value in values for step in ((JUMP_EQUAL, 0, 1, value), fail(errno.EPERM))]
    return _when(name, [_argument(index), *tests, _allow()])


def _allow_values(name: str, index: int, values: tuple[int, ...]) -> list[Instruction]:
    tests = [step for value in values for step in ((JUMP_EQUAL, 0, 1, value), _allow())]
    return _when(name, [_argument(index), *tests, fail(errno.EPERM)])


def _clone(threads_only: bool) -> list[Instruction]:
    body = [_argument(0), (JUMP_SET, 0, 1, NEW_NAMESPACES), fail(errno.EPERM)]
    if threads_only:
        body += [(JUMP_SET, 1, 0, sc.CLONE_THREAD), fail(errno.EPERM)]
    # clone3 hides its flags behind a pointer; on ENOSYS the C library falls back to clone.
    return _when("clone", [*body, _allow()]) + _when("clone3", [fail(errno.ENOSYS)])


def _own_process_only(pid: int) -> list[Instruction]:
    """Without a pid namespace: reach no other process, and end together with the zygote."""
    signals = _allow_values("kill", 0, (pid,)) + _allow_values("tgkill", 0, (pid,))
    own = [step for name in ("prlimit64", *QUESTIONS.split())
           for step in _allow_values(name, 0, (0, pid))]  # fmt: skip
    own += _own_priority(pid) + _deny(["ioprio_get", "tkill"])
    return signals + own + _deny_values("prctl", 0, (sc.PR_SET_PDEATHSIG,))


def _own_priority(pid: int) -> list[Instruction]:
    """getpriority of this process, not of a group or a user."""
    body = [_argument(0), (JUMP_EQUAL, 1, 0, 0), fail(errno.EPERM), _argument(1)]
    for value in (0, pid):
        body += [(JUMP_EQUAL, 0, 1, value), _allow()]
    return _when("getpriority", [*body, fail(errno.EPERM)])


def _pairs(allowed: bool) -> list[Instruction]:
    """Where processes are many: two connected ends between them, which reach nobody else."""
    return _allow_values("socketpair", 0, (AF_UNIX,)) if allowed else []


def assemble(
    *,
    processes: int,
    private_root: bool,
    pid: int | None,
    execute: bool = False,
    allowed: frozenset[str] = frozenset(),
) -> bytes:
    """The filter as `struct sock_filter[]`; `pid` when no pid namespace hides other processes.

    `allowed` are names of `DENIED` that this kind of candidate cannot do without; "flock" stands
    for every kind of file lock.
    """
    machine = platform.machine()
    program: list[Instruction] = [
        (LOAD, 0, 0, ARCH_AT),
        (JUMP_EQUAL, 1, 0, sc.AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER_AT),
        (JUMP_GREATER, 0, 1, sc.HIGHEST_KNOWN),  # also refuses the x32 numbers
        fail(errno.ENOSYS),
        *_pairs(processes > 1 and private_root),
        *_deny([name for name in DENIED.split() if name not in allowed]),
        *([] if private_root else _deny(METADATA.split())),
        *(_deny(NEW_PROCESSES) if processes == 1 else []),
        *(_deny(("execve",)) if processes == 1 and not execute else []),
        *_clone(processes == 1),
        *([] if pid is None else _own_process_only(pid)),
        *_deny_values("ioctl", 1, TERMINAL_INJECTION),
        *_deny_values("fcntl", 1, FCNTL_DENIED + (() if "flock" in allowed else FCNTL_LOCKS)),
        _allow(),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in program)


def install(filter_bytes: bytes) -> None:
    """Put the filter on the calling thread for good; needs no_new_privs. Raises OSError."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    buffer = ctypes.create_string_buffer(filter_bytes, len(filter_bytes))
    program = Program(len(filter_bytes) // 8, ctypes.addressof(buffer))
    sc.prctl(sc.PR_SET_SECCOMP, 2, ctypes.byref(program))
