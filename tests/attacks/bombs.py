"""Attacks that use the machine up. Each is bounded, so that it is safe without a sandbox."""

from __future__ import annotations

from typing import Any


def bomb_forks(world: Any) -> Any:
    """Fork again and again."""
    import os
    import signal

    made = []
    try:
        while len(made) < 200:
            child = os.fork()
            if child == 0:
                signal.pause()
            made.append(child)
    except OSError as problem:
        if len(made) < 100:
            raise problem
    finally:
        for child in made:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return len(made)


def bomb_threads(world: Any) -> Any:
    """Start threads again and again, with stacks so small that memory does not run out first."""
    import threading

    threading.stack_size(64 << 10)
    stop, started = threading.Event(), 0
    try:
        while started < 400:
            threading.Thread(target=stop.wait, daemon=True).start()
            started += 1
    finally:
        stop.set()
    return started


def bomb_memory(world: Any) -> Any:
    """Allocate and touch four times the memory allowed."""
    return len(bytearray(4 * world["memory_bytes"]))


def bomb_memory_mapped(world: Any) -> Any:
    """The same as a shared mapping, which no heap limit counts."""
    import mmap

    block = mmap.mmap(-1, 4 * world["memory_bytes"])
    for place in range(0, len(block), 4096):
        block[place] = 1
    return len(block)


def bomb_memory_file(world: Any) -> Any:
    """The same in an anonymous file."""
    import os

    file = os.memfd_create("bomb")
    chunk = bytes(1 << 20)
    return sum(os.write(file, chunk) for _ in range(4 * world["memory_bytes"] >> 20))


def bomb_shared_memory(world: Any) -> Any:
    """Take System V shared memory, which outlives its process."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    number = libc.shmget(0, 1 << 20, 0o1600)
    if number < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    libc.shmctl(number, 0, 0)
    return "taken"


def bomb_disk(world: Any) -> Any:
    """Write four times the space allowed into the working folder, in many files."""
    import os
    import tempfile

    folder, written = tempfile.mkdtemp(), 0
    chunk = bytes(1 << 20)
    while written < 4 * world["scratch_bytes"]:
        with open(f"{folder}/{written}", "wb") as file:
            written += file.write(chunk)
    for name in os.listdir(folder):
        os.unlink(f"{folder}/{name}")
    return written


def bomb_file_size(world: Any) -> Any:
    """Make one file of a terabyte."""
    import tempfile

    with tempfile.TemporaryFile() as file:
        return file.truncate(1 << 40)


def bomb_files(world: Any) -> Any:
    """Make thousands of empty files."""
    import os
    import tempfile

    folder = tempfile.mkdtemp()
    for number in range(8000):
        os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_WRONLY))
    return 8000


def bomb_folders(world: Any) -> Any:
    """Nest folders deeper than a cleaner can walk, and leave them behind."""
    import os

    for _ in range(3000):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    return None


def bomb_descriptors(world: Any) -> Any:
    """Open files until there are no descriptors left."""
    import os
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return len([os.open("/dev/null", os.O_RDONLY) for _ in range(600)])


def bomb_output(world: Any) -> Any:
    """Print far more than is kept."""
    import os

    line = b"x" * 65536
    for _ in range(world["flood_bytes"] // len(line)):
        os.write(1, line)
    return None


def bomb_result(world: Any) -> Any:
    """Return far more than is allowed."""
    return "x" * (world["result_bytes"] + 1000)


def bomb_time(world: Any) -> Any:
    """Ignore every polite signal and never end."""
    import signal
    import time

    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    end = time.monotonic() + 4 * world["wall_s"]
    while time.monotonic() < end:
        try:
            time.sleep(0.1)
        except BaseException:
            continue
    return "outlived the limit"


def bomb_after_return(world: Any) -> Any:
    """Return, and go on in the exit handlers and another thread."""
    import atexit
    import threading
    import time

    atexit.register(time.sleep, 4 * world["wall_s"])
    threading.Thread(target=time.sleep, args=(4 * world["wall_s"],)).start()
    return None


def bomb_exceptions(world: Any) -> Any:
    """Raise an exception whose text never ends."""

    class Endless(Exception):
        def __str__(self) -> str:
            return "x" * 50_000_000

    raise Endless


def bomb_requests(world: Any) -> Any:
    """Take the asynchronous requests, of which the whole machine has one number."""
    import ctypes
    import platform

    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 206, "aarch64": 0}[platform.machine()]
    place = ctypes.c_ulong()
    if libc.syscall(number, 4096, ctypes.byref(place)) < 0:
        raise OSError(ctypes.get_errno(), "io_setup")
    return "taken"
