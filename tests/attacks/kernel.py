"""Attacks on the kernel's larger surfaces, by raw system calls."""

from __future__ import annotations

from typing import Any


def use_io_uring(world: Any) -> Any:
    """Set up io_uring, whose operations pass no system-call filter."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    got = libc.syscall(425, 4, ctypes.create_string_buffer(256))
    if got < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    return got


def use_userfaultfd(world: Any) -> Any:
    """Handle page faults, the lever of many exploits."""
    import ctypes
    import platform

    libc = ctypes.CDLL(None, use_errno=True)
    got = libc.syscall({"x86_64": 323, "aarch64": 282}[platform.machine()], 1)
    if got < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    return got


def use_keyring(world: Any) -> Any:
    """Put a key where other processes of the user find it."""
    import ctypes
    import platform

    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 248, "aarch64": 217}[platform.machine()]
    key = libc.syscall(number, b"user", world["mark"].encode(), b"secret", 6, -4)
    if key < 0:
        raise OSError(ctypes.get_errno(), "add_key")
    return "put"


def use_bpf(world: Any) -> Any:
    """Make a BPF map."""
    import ctypes
    import platform
    import struct

    libc = ctypes.CDLL(None, use_errno=True)
    attributes = ctypes.create_string_buffer(struct.pack("=IIII", 2, 4, 8, 1), 128)
    number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    got = libc.syscall(number, 0, attributes, 128)
    if got < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return got


def use_perf(world: Any) -> Any:
    """Count another's events."""
    import ctypes
    import platform

    libc = ctypes.CDLL(None, use_errno=True)
    attributes = ctypes.create_string_buffer(128)
    attributes[:8] = (1).to_bytes(4, "little") + (128).to_bytes(4, "little")
    number = {"x86_64": 298, "aarch64": 241}[platform.machine()]
    got = libc.syscall(number, attributes, 0, -1, -1, 0)
    if got < 0:
        raise OSError(ctypes.get_errno(), "perf_event_open")
    return got


def make_namespaces(world: Any) -> Any:
    """Become root in namespaces of one's own, where the kernel offers far more."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000 | 0x00020000 | 0x40000000) < 0:
        raise OSError(ctypes.get_errno(), "unshare")
    return "root there"


def make_namespaces_by_clone(world: Any) -> Any:
    """The same by clone and clone3."""
    import ctypes
    import os
    import platform

    libc = ctypes.CDLL(None, use_errno=True)
    flags = 0x10000000 | 17
    number = {"x86_64": 56, "aarch64": 220}[platform.machine()]
    child = libc.syscall(number, ctypes.c_long(flags), None, None, None, None)
    if child == 0:
        os._exit(0)
    if child < 0:
        raise OSError(ctypes.get_errno(), "clone")
    os.waitpid(child, 0)
    return "root there"


def mount_something(world: Any) -> Any:
    """Mount a file system over another, in a mount namespace where that is possible."""
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0:
        libc.unshare(0x10000000 | 0x00020000)
    if libc.mount(b"x", b"/tmp", b"tmpfs", 0, b"") < 0:
        raise OSError(ctypes.get_errno(), "mount")
    return "mounted"


def mount_by_descriptor(world: Any) -> Any:
    """The same by the newer calls."""
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0:
        libc.unshare(0x10000000 | 0x00020000)
    got = libc.syscall(428, -100, b"/", 1)  # open_tree, cloned
    if got < 0:
        raise OSError(ctypes.get_errno(), "open_tree")
    return "opened"


def change_root(world: Any) -> Any:
    """Change the root folder."""
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0:
        libc.unshare(0x10000000)
    if libc.chroot(b"/usr") < 0:
        raise OSError(ctypes.get_errno(), "chroot")
    return "changed"


def enter_namespaces(world: Any) -> Any:
    """Enter another process's namespaces."""
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    target = os.open(f"/proc/{world['victim']}/ns/uts", os.O_RDONLY)
    if libc.setns(target, 0) < 0:
        raise OSError(ctypes.get_errno(), "setns")
    return "entered"


def become_root(world: Any) -> Any:
    """Become root, by the user id or by a namespace that maps it."""
    import os

    if os.getuid() != 0:
        os.setuid(0)
    return os.getuid() == 0


def inject_into_terminal(world: Any) -> Any:
    """Type into the terminal from which the run was started."""
    import fcntl
    import os
    import termios

    try:
        os.setsid()
    except OSError:
        pass
    try:
        _, terminal = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    except OSError:
        terminal = 0
    fcntl.ioctl(terminal, termios.TIOCSTI, b"x")
    return "typed"


def call_32_bit(world: Any) -> Any:
    """Call the kernel by the 32-bit gate, whose numbers a filter may not know."""
    import ctypes
    import mmap

    code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"  # mov eax, 20 (getpid); int 0x80; ret
    block = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    block.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)()


def call_x32(world: Any) -> Any:
    """Open a socket by its x32 number, or by any number over the known ones."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    for number in (0x40000000 | 41, 41):
        got = libc.syscall(ctypes.c_long(number), 2, 1, 0)
        if got >= 0:
            return got
    raise OSError(ctypes.get_errno(), "socket")


def disable_randomisation(world: Any) -> Any:
    """Make addresses predictable for what runs next."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.personality(0x0040000) < 0:
        raise OSError(ctypes.get_errno(), "personality")
    return "disabled"


def raise_limits(world: Any) -> Any:
    """Lift one's own limits."""
    import resource

    kind = resource.RLIMIT_CORE
    resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return resource.getrlimit(kind)[0] == resource.RLIM_INFINITY


def listen_for_files(world: Any) -> Any:
    """Watch what others open, by fanotify."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    got = libc.fanotify_init(0x200, 0)
    if got < 0:
        raise OSError(ctypes.get_errno(), "fanotify_init")
    return got


def watch_files(world: Any) -> Any:
    """Learn when others use a library, by inotify."""
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    watcher = libc.inotify_init1(0)
    if watcher < 0 or libc.inotify_add_watch(watcher, os.__file__.encode(), 0x20) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    return "watching"


def watch_folder(world: Any) -> Any:
    """The same by the older call, which sends a signal."""
    import fcntl
    import os

    folder = os.open(os.path.dirname(os.__file__), os.O_RDONLY)
    fcntl.fcntl(folder, fcntl.F_NOTIFY, fcntl.DN_ACCESS)
    return "watching"


def lock_library(world: Any) -> Any:
    """Lock a file that others read, so that whoever locks it too waits for ever."""
    import fcntl
    import os

    fcntl.flock(os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    return "locked"


def lock_library_by_record(world: Any) -> Any:
    """The same by a lock on a part of the file."""
    import fcntl
    import os

    fcntl.lockf(os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB, 1)
    return "locked"
