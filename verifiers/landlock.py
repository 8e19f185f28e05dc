"""Landlock: which files a candidate may touch, where no user namespace is needed for it.

Stops: opening files outside the given folders, TCP (ABI 4), signals and abstract sockets to the
outside (ABI 6), ptrace of the outside. Does not stop: chmod, chown, utime, xattr, stat, and
truncation before ABI 3: the system-call filter denies those.

Standard library only: the zygote imports this file in an interpreter without site-packages.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from eurekaflow.verifiers import syscalls as sc

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_FIRST_ABI = (1 << 13) - 1  # execute … make_sym
_NETWORK = 0b11  # bind and connect, TCP
_SCOPES = 0b11  # abstract unix sockets, signals


def abi() -> int:
    """The kernel's Landlock version, 0 when absent or switched off."""
    try:
        return sc.call("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


def _handled(version: int) -> int:
    rights = _FIRST_ABI
    rights |= REFER if version >= 2 else 0
    rights |= TRUNCATE if version >= 3 else 0
    return rights | (IOCTL_DEV if version >= 5 else 0)


def _ruleset(version: int) -> int:
    words = [_handled(version)]
    words += [_NETWORK] if version >= 4 else []
    words += [_SCOPES] if version >= 6 else []
    attribute = struct.pack(f"={len(words)}Q", *words)
    buffer = ctypes.create_string_buffer(attribute, len(attribute))
    return sc.call("landlock_create_ruleset", ctypes.byref(buffer), len(attribute), 0)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # a folder that is absent needs no rule
    if not stat.S_ISDIR(os.fstat(parent).st_mode):
        rights &= ON_FILES
    rule = struct.pack("=Qi", rights, parent)
    buffer = ctypes.create_string_buffer(rule, len(rule))
    try:
        sc.call("landlock_add_rule", ruleset, 1, ctypes.byref(buffer), 0)
    finally:
        os.close(parent)


def prepare(
    *, read: Iterable[str], write: Iterable[str] = (), listed: Iterable[str] = ()
) -> int | None:
    """A ruleset to be entered by `enter`; None where the kernel has no Landlock."""
    version = abi()
    if version == 0:
        return None
    ruleset = _ruleset(version)
    for path in read:
        _allow(ruleset, path, READ)
    for path in listed:  # names only, not what the files hold
        _allow(ruleset, path, READ_DIR)
    for path in write:
        _allow(ruleset, path, _handled(version))
    return ruleset


def enter(ruleset: int) -> None:
    """Restrict the calling thread for good; needs no_new_privs. Raises OSError."""
    sc.call("landlock_restrict_self", ruleset, 0)
