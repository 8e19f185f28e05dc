"""Confines a candidate's GPU worker and becomes it: what the CPU sandbox does, plus the device.

Alike: own user or nobody, pid, mount, network, ipc and uts namespaces, a minimal read-only root, a
private /tmp, no_new_privs, a system-call filter, an empty environment. Different, because CUDA and
Triton need it: /dev/nvidia* and a /proc of its own pid namespace are there, compilers may be
started, sockets may be made (the driver makes one; in a network namespace without interfaces they
reach nobody), address space is not limited (a CUDA context reserves terabytes of it), and there is
no Landlock, with which the driver does not start. Not stopped: what GPU drivers do not stop.

Standard library only: it runs in an interpreter without site-packages, and execs the worker.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from eurekaflow.verifiers import confine, namespaces, seccomp
from eurekaflow.verifiers import syscalls as sc

STATUS = 5  # who we are, or why it failed; closed when the worker starts
SCRATCH_BYTES = 1 << 30
OPEN_FILES, THREADS = 1024, 4096
# The driver does not start without sockets; compilers lock their caches, which are its own here.
ALLOWED_CALLS = frozenset({"bind", "listen", "socket", "flock"})


def main(config: Mapping[str, Any]) -> NoReturn:
    """Confine this process, or a child of it, and exec the worker."""
    try:
        if config["level"] == confine.NAMESPACES:
            _enter(config)
        else:
            os.write(STATUS, json.dumps({"pid": os.getpid()}).encode())
        _limit(config["cpu_s"])
        if config["level"] == confine.NAMESPACES:
            _seal()
    except OSError as error:
        os.write(STATUS, json.dumps({"error": str(error)}).encode())
        os._exit(1)
    os.close(STATUS)
    os.execve(config["python"], [config["python"], *config["argv"]], config["environment"])


def _enter(config: Mapping[str, Any]) -> None:
    """Namespaces and root; continues as pid 1, whose outer pid the parent has reported."""
    proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
    kinds = sc.CLONE_NEWNS | namespaces.OWN_NAMESPACES
    if os.geteuid() == 0:
        sc.unshare(kinds)
    else:
        namespaces.new_user_namespace(kinds, proc)
    child = os.fork()
    if child:
        os.write(STATUS, json.dumps({"pid": child}).encode() + b"\n")
        os.closerange(0, 3)
        os.closerange(3, 64)
        os.waitpid(child, 0)
        os._exit(0)
    devices = (*namespaces.DEVICES, *config["devices"])
    namespaces.build_root(config["readable"], config["masked"], devices=devices, own_proc=True)
    scratch = config["environment"]["TMPDIR"]
    options = f"size={SCRATCH_BYTES},mode=777"
    sc.mount("tmpfs", scratch, kind="tmpfs", options=options,
             flags=namespaces.MS_NOSUID | namespaces.MS_NODEV)  # fmt: skip
    namespaces.drop_to_nobody()
    sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.close(proc)
    os.chdir(scratch)


def _limit(cpu_s: float) -> None:
    wanted = {
        resource.RLIMIT_CPU: int(cpu_s) + 1,
        resource.RLIMIT_FSIZE: SCRATCH_BYTES,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: THREADS,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        _, ceiling = resource.getrlimit(kind)
        least = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
        resource.setrlimit(kind, (least, least))


def _seal() -> None:
    if os.geteuid() != 0:
        sc.keep_capability(None)
    sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install(
        seccomp.assemble(processes=64, private_root=True, pid=None, allowed=ALLOWED_CALLS)
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
