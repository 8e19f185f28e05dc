"""Attacks on other processes: signals, tracing, priorities, and staying alive afterwards."""

from __future__ import annotations

from typing import Any


def kill_parent(world: Any) -> Any:
    """Kill the process that waits for the result."""
    import os
    import signal

    os.kill(world["victim"], signal.SIGKILL)
    return "killed"


def stop_parent(world: Any) -> Any:
    """Stop it, so that the deadline never comes."""
    import os
    import signal

    os.kill(world["victim"], signal.SIGSTOP)
    return "stopped"


def signal_everyone(world: Any) -> Any:
    """Reach every process of the user (signal 0 changes nothing)."""
    import os

    os.kill(-1, 0)
    if os.getpid() == 1:
        raise ProcessLookupError(3, "there is nobody else")
    return "reached"


def signal_by_descriptor(world: Any) -> Any:
    """Signal through a process descriptor."""
    import os
    import signal

    signal.pidfd_send_signal(os.pidfd_open(world["victim"]), 0)
    return "reached"


def signal_by_thread(world: Any) -> Any:
    """Signal a thread of another process by tgkill and rt_sigqueueinfo."""
    import ctypes
    import platform

    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 234, "aarch64": 131}[platform.machine()]
    if libc.syscall(number, world["victim"], world["victim"], 0) < 0:
        raise OSError(ctypes.get_errno(), "tgkill")
    return "reached"


def signal_by_owner(world: Any) -> Any:
    """Let the kernel send the signal when a pipe becomes ready."""
    import fcntl
    import os

    read, _ = os.pipe()
    fcntl.fcntl(read, fcntl.F_SETOWN, world["victim"])
    return "routed"


def trace_parent(world: Any) -> Any:
    """Attach to another process by ptrace."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0x4206, world["victim"], 0, 0) < 0:  # PTRACE_SEIZE
        raise OSError(ctypes.get_errno(), "ptrace")
    libc.ptrace(17, world["victim"], 0, 0)
    return "attached"


def read_parent_memory(world: Any) -> Any:
    """Read another process's memory."""
    import ctypes

    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    libc = ctypes.CDLL(None, use_errno=True)
    here = ctypes.create_string_buffer(8)
    local = Vector(ctypes.addressof(here), 8)
    remote = Vector(world["victim_address"], 8)
    got = libc.process_vm_readv(
        world["victim"], ctypes.byref(local), 1, ctypes.byref(remote), 1, 0
    )
    if got < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return here.raw.decode()


def write_parent_memory(world: Any) -> Any:
    """Open another process's memory through /proc."""
    import os

    os.close(os.open(f"/proc/{world['victim']}/mem", os.O_RDWR))
    return "opened"


def steal_descriptor(world: Any) -> Any:
    """Copy a descriptor out of another process."""
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.pidfd_open(world["victim"])
    stolen = libc.syscall(438, handle, world["victim_descriptor"], 0)
    if stolen < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return os.pread(stolen, 100, 0).decode()


def starve_parent(world: Any) -> Any:
    """Take another process its priority, its limits and its cores."""
    import os
    import resource

    os.setpriority(os.PRIO_PROCESS, world["victim"], 19)
    os.sched_setaffinity(world["victim"], {min(os.sched_getaffinity(0))})
    resource.prlimit(world["victim"], resource.RLIMIT_NOFILE, (16, 16))
    return "starved"


def take_cores(world: Any) -> Any:
    """Move to cores that were given to another candidate."""
    import os

    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)))
    return "moved"


def take_priority(world: Any) -> Any:
    """Become a real-time process."""
    import os

    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return "taken"


def survive_as_daemon(world: Any) -> Any:
    """Fork twice, leave the session, and live on."""
    import ctypes
    import os
    import time

    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(15, world["mark"].encode(), 0, 0, 0)
            os.closerange(0, 3)  # nobody waits for its output
            time.sleep(world["outlive_s"])
        os._exit(0)
    os.wait()
    time.sleep(0.2)
    return "left a process"


def run_shell(world: Any) -> Any:
    """Run another program."""
    import subprocess

    return subprocess.run(["/bin/sh", "-c", "echo ran"], capture_output=True, check=True).stdout


def replace_itself(world: Any) -> Any:
    """Become another program."""
    import os

    os.execv("/bin/echo", ["echo", "ran"])


def run_from_memory(world: Any) -> Any:
    """Run an executable that lies in no file system."""
    import os

    file = os.memfd_create("payload")
    os.write(file, open("/bin/echo", "rb").read())
    os.execv(f"/proc/self/fd/{file}", ["echo", "ran"])


def spare_itself(world: Any) -> Any:
    """Make the kernel kill others first when memory runs out."""
    with open("/proc/self/oom_score_adj", "w") as file:
        return file.write("0")


def ask_for_session(world: Any) -> Any:
    """Ask whether another process is there, in which session and group."""
    import os

    return [os.getsid(world["victim"]), os.getpgid(world["victim"])]


def ask_for_priority(world: Any) -> Any:
    """Ask how and on which cores another process runs."""
    import os

    cores = len(os.sched_getaffinity(world["victim"]))
    return [os.getpriority(os.PRIO_PROCESS, world["victim"]), cores]


def ask_for_threads(world: Any) -> Any:
    """Ask where another process keeps its locks."""
    import ctypes
    import platform

    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 274, "aarch64": 100}[platform.machine()]
    head, size = ctypes.c_void_p(), ctypes.c_size_t()
    if libc.syscall(number, world["victim"], ctypes.byref(head), ctypes.byref(size)) < 0:
        raise OSError(ctypes.get_errno(), "get_robust_list")
    return "asked"
