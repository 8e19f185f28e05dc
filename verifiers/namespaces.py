"""Namespaces and the minimal read-only root in which a zygote and its candidates live.

A zygote enters once: user, pid, mount, network, ipc and uts namespaces and a root that holds the
interpreter and the system's libraries, read-only, and nothing else. Each candidate then gets a
pid, mount and ipc namespace of its own and a private tmpfs as /tmp: about a millisecond.

Stops: seeing other processes, any file outside the root, the network, writing outside /tmp.
Does not stop: reading what is installed under /usr and beside the interpreter.

Standard library only: the zygote imports this file in an interpreter without site-packages.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from eurekaflow.verifiers import syscalls as sc

NOBODY = 65534
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
AT_RECURSIVE, AT_FDCWD = 0x8000, -100
DEVICES = ("null", "zero", "full", "random", "urandom")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
ETC = ("/etc/ld.so.cache", "/etc/alternatives")
STAGING = "/tmp"  # covered by a tmpfs in the new mount namespace only
CANDIDATE_NAMESPACES = sc.CLONE_NEWNS | sc.CLONE_NEWIPC
OWN_NAMESPACES = sc.CLONE_NEWPID | sc.CLONE_NEWNET | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS


def enter(*, read_only: Sequence[str], masked: Sequence[str], proc: int) -> None:
    """Move this process behind a minimal root, in namespaces of its own, without real privileges.

    The next fork becomes pid 1 of the new pid namespace. `proc` is a descriptor of /proc opened
    before; /proc does not exist afterwards. Raises OSError where a step is refused.
    """
    if os.geteuid() == 0:
        # The bind mounts need real root (a mode-700 home); everything after must not have it.
        sc.unshare(sc.CLONE_NEWNS)
        build_root(read_only, masked)
        drop_to_nobody()
        new_user_namespace(sc.CLONE_NEWNS | OWN_NAMESPACES, proc)
    else:
        new_user_namespace(sc.CLONE_NEWNS | OWN_NAMESPACES, proc)
        build_root(read_only, masked)


def drop_to_nobody() -> None:
    """Give up root for uid and gid 65534; a no-op for an ordinary user."""
    if os.geteuid() != 0:
        return
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    sc.prctl(sc.PR_SET_DUMPABLE, 1)  # or our own /proc/self stays root's


def new_user_namespace(others: int, proc: int) -> None:
    """Enter a user namespace, and the `others`, as nobody with all capabilities in it."""
    uid, gid = os.geteuid(), os.getegid()
    sc.unshare(sc.CLONE_NEWUSER | others)
    write_self(proc, "setgroups", "deny")
    write_self(proc, "gid_map", f"{NOBODY} {gid} 1")
    write_self(proc, "uid_map", f"{NOBODY} {uid} 1")


def write_self(proc: int, name: str, text: str) -> None:
    """Write one file of /proc/self through a descriptor of /proc."""
    descriptor = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def scratch_folder(read_only: Sequence[str]) -> str:
    """/tmp, unless a private /tmp would cover a Python or virtual environment that lies there."""
    under_tmp = any(path.startswith("/tmp/") for path in read_only)
    return "/scratch" if under_tmp else "/tmp"


def build_root(
    read_only: Sequence[str],
    masked: Sequence[str],
    *,
    devices: Sequence[str] = DEVICES,
    own_proc: bool = False,
) -> None:
    """Assemble the root on a tmpfs and pivot into it; the old root is gone afterwards.

    `own_proc` shows /proc of this process's own, new pid namespace.
    """
    sc.mount("none", "/", flags=MS_REC | MS_PRIVATE)
    sources = _Sources(read_only, masked)
    sc.mount("tmpfs", STAGING, kind="tmpfs", flags=MS_NOSUID | MS_NODEV, options="mode=755")
    for name in ("tmp", "scratch", "dev", "etc", "old"):
        os.mkdir(f"{STAGING}/{name}")
    for device in devices:
        _bind_file(f"/dev/{device}", f"{STAGING}/dev/{device}")
    if own_proc:
        os.mkdir(f"{STAGING}/proc")
        sc.mount("proc", f"{STAGING}/proc", kind="proc", flags=MS_NOSUID | MS_NODEV | MS_NOEXEC)
    os.symlink(scratch_folder(read_only), f"{STAGING}/dev/shm")
    with open(f"{STAGING}/etc/passwd", "w") as accounts:
        accounts.write(f"candidate:x:{NOBODY}:{NOBODY}::/tmp:/bin/sh\n")
    sources.place()
    sc.call("pivot_root", STAGING.encode(), f"{STAGING}/old".encode())
    os.chdir("/")
    sc.unmount_lazily("/old")
    os.rmdir("/old")
    sc.mount("none", "/", flags=MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


class _Sources:
    """What is shown and hidden, placed from the shallowest path to the deepest.

    Sources are opened before the staging tmpfs covers /tmp, so a virtual environment under /tmp
    can be shown too.
    """

    def __init__(self, read_only: Sequence[str], masked: Sequence[str]) -> None:
        system = [path for path in SYSTEM if os.path.lexists(path)]
        self._links = {path: os.readlink(path) for path in system if os.path.islink(path)}
        wanted = {path for path in system if path not in self._links}
        wanted |= {path for path in (*read_only, *ETC) if os.path.exists(path)}
        flags = os.O_PATH | os.O_CLOEXEC
        self._shown = {path: os.open(path, flags) for path in wanted}
        self._masked = frozenset(path for path in masked if os.path.isdir(path))
        self._covered: list[str] = []

    def place(self) -> None:
        for path, link in self._links.items():
            os.symlink(link, STAGING + path)
        every = [*self._shown, *(self._masked - set(self._shown))]
        for path in sorted(every, key=lambda path: (path.count("/"), path)):
            self._place_one(path)
        for target in self._covered:  # only now: what is shown below one needs its mount point
            sc.mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
        for descriptor in self._shown.values():
            os.close(descriptor)

    def _place_one(self, path: str) -> None:
        target = STAGING + path
        if path in self._masked:
            if os.path.isdir(target):  # only where a shown folder would reveal it
                sc.mount("tmpfs", target, kind="tmpfs", flags=MS_NOSUID | MS_NODEV,
                         options="mode=755,size=64k")  # fmt: skip
                self._covered.append(target)
            return
        source = f"/proc/self/fd/{self._shown[path]}"
        if os.path.isdir(source):
            if not os.path.isdir(target):
                os.makedirs(target, mode=0o755)
            _bind(source, target)
        else:
            _bind_file(source, target)


def _bind_file(source: str, target: str) -> None:
    if not os.path.exists(target):
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    sc.mount(source, target, flags=MS_BIND)


def _bind(source: str, target: str) -> None:
    sc.mount(source, target, flags=MS_BIND | MS_REC)
    attributes = (ctypes.c_uint64 * 4)(MS_RDONLY | MS_NOSUID, 0, 0, 0)
    arguments = (target.encode(), AT_RECURSIVE, ctypes.byref(attributes), 32)
    try:
        sc.call("mount_setattr", AT_FDCWD, *arguments)
    except OSError:  # before Linux 5.12: the top mount only, keeping the flags it has
        kept = os.statvfs(target).f_flag & 0xF
        sc.mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | kept)


def next_child_is_pid_one(own: int) -> None:
    """Give the next fork a new pid namespace; `own` is the zygote's own namespace.

    One process may only unshare again after returning its children to its own namespace.
    """
    sc.setns(own, sc.CLONE_NEWPID)
    sc.unshare(sc.CLONE_NEWPID)


def enter_candidate(folder: str, *, scratch_bytes: int) -> None:
    """In a candidate's fork: its own mount and ipc namespace and a private tmpfs on `folder`."""
    sc.unshare(CANDIDATE_NAMESPACES)
    options = f"size={max(scratch_bytes, 4096)},nr_inodes=4096,mode=700"
    sc.mount("tmpfs", folder, kind="tmpfs", flags=MS_NOSUID | MS_NODEV, options=options)
    os.chdir(folder)
