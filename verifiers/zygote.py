"""The zygote: an interpreter with numpy preloaded that forks one confined child per candidate.

It is a fresh interpreter with an almost empty environment, never a fork of the runner, and speaks
over the unix socket on descriptor 0. The host sends one configuration, the zygote answers with the
layers it has proven; then, per candidate, the host sends the limits with three pipe ends (job in,
result out, output out) and the zygote answers with how the child ended. It never reads a
job or a result, so its memory holds nothing of one candidate for the next to find.

Standard library only, apart from the preloads: it runs in an interpreter without site-packages.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
import traceback
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from eurekaflow.verifiers import candidate, confine, landlock, namespaces
from eurekaflow.verifiers import syscalls as sc

# A fork costs what is loaded: about 3 ms of CPU with numpy alone, 9 with the parts of scipy here.
NUMPY = """
random math cmath itertools functools collections heapq bisect fractions decimal statistics copy
re string time dataclasses typing threading concurrent.futures.thread contextlib operator
inspect traceback linecache io json warnings struct numpy numpy.random numpy.fft numpy.linalg
numpy.ma numpy.polynomial
"""
SCIPY = """
scipy.optimize scipy.signal scipy.linalg scipy.special scipy.fft scipy.sparse
scipy.sparse.linalg scipy.spatial scipy.interpolate scipy.integrate
"""
PRELOADS = {"numpy": NUMPY, "scipy": NUMPY + SCIPY}
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
}
CONTROL = 0
FILES = {  # what a candidate may write, by level
    confine.NAMESPACES: ["minimal-root", "no-network", "private-tmp"],
    confine.LANDLOCK: ["no-write"],
    confine.CONTAINER: ["private-tmp"],
}
MESSAGE_BYTES = 1 << 20
NAMESPACE_KINDS = {  # name under /proc/self/ns: name of the layer
    "user": "userns",
    "pid": "pidns",
    "mnt": "mountns",
    "net": "netns",
    "ipc": "ipcns",
    "uts": "utsns",
}


def main() -> NoReturn:
    """Enter the namespaces, preload, report, serve until the host closes the socket."""
    control = socket.socket(fileno=CONTROL)
    try:
        config = json.loads(control.recv(MESSAGE_BYTES))
        _serve_at_level(control, config)
    except Exception as problem:
        report = {"error": f"{type(problem).__name__}: {problem}", "trace": traceback.format_exc()}
        control.send(json.dumps(report).encode())
    os._exit(1)


def _serve_at_level(control: socket.socket, config: Mapping[str, Any]) -> None:
    proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
    code = _stub_code()
    layers = _prove_kernel_layers(config["level"])
    if config["level"] == confine.NAMESPACES:
        layers += _enter_namespaces(config, proc)
    else:
        _adopt_orphans(config["level"])
    if config["level"] == confine.CONTAINER:
        sc.prctl(sc.PR_SET_DUMPABLE, 0)  # a candidate of the same user must not open our memory
    stub = _load(code, config)
    setting = _setting(config, proc, landlocked="landlock" in layers)
    layers += _prove_candidate_layers(setting)
    control.send(json.dumps({"layers": layers}).encode())
    while True:
        _serve_one(control, setting, stub)


def _adopt_orphans(level: str) -> None:
    try:
        sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
    except OSError:
        if level != confine.CONTAINER:  # which ends after a candidate that could leave some
            raise


def _enter_namespaces(config: Mapping[str, Any], proc: int) -> list[str]:
    before = _namespaces(proc)
    namespaces.enter(read_only=config["readable"], masked=config["masked"], proc=proc)
    _continue_as_pid_one()
    after = _namespaces(proc)
    if any(before[kind] == after[kind] for kind in NAMESPACE_KINDS):
        raise OSError("the kernel accepted unshare but a namespace is still the host's")
    return list(NAMESPACE_KINDS.values())


def _stub_code() -> types.CodeType:
    """The stub, read while its file can still be seen; it runs after numpy is there."""
    path = os.path.join(os.path.dirname(confine.__file__), "stub.py")
    with open(path, encoding="utf-8") as file:
        return compile(file.read(), "<stub>", "exec", dont_inherit=True)


def _load(code: types.CodeType, config: Mapping[str, Any]) -> types.ModuleType:
    """Preload the numeric stack and the stub, then hide our own modules from candidates."""
    sys.path[:] = [*filter(None, sys.path), *config["site"]]
    os.environ.clear()
    scratch = _scratch(config)
    os.environ.update(ENVIRONMENT, HOME=scratch, TMPDIR=scratch)
    for name in PRELOADS[config["stack"]].split():
        _preload(name)
    stub = types.ModuleType("stub")
    exec(code, stub.__dict__)
    for name in [name for name in sys.modules if name.partition(".")[0] == "eurekaflow"]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()  # or the first collection in each child copies every preloaded page
    return stub


def _scratch(config: Mapping[str, Any]) -> str:
    if config["level"] == confine.CONTAINER:
        return "/scratch"
    return namespaces.scratch_folder(config["readable"])


def _preload(name: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError:
        if name == "numpy":
            raise


def _continue_as_pid_one() -> None:
    """Fork into the new pid namespace; the original only waits, and each dies with the other."""
    child = os.fork()
    if child == 0:
        sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
        return
    os.closerange(0, 3)
    os.waitpid(child, 0)
    os._exit(0)


def _setting(config: Mapping[str, Any], proc: int, *, landlocked: bool) -> confine.Confinement:
    own, rules = None, None
    if config["level"] == confine.NAMESPACES:
        own = os.open("self/ns/pid", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    if config["level"] in (confine.LANDLOCK, confine.CONTAINER) and landlocked:
        own_folder = (os.environ["TMPDIR"],) if config["level"] == confine.CONTAINER else ()
        rules = landlock.prepare(
            read=(*config["readable"], *confine.DEVICES),
            listed=config["listed"],
            write=("/dev/null", *own_folder),
        )
    return confine.Confinement(
        level=config["level"],
        baseline_bytes=_address_space(proc),
        landlock=landlocked,
        rules=rules,
        own_pid_namespace=own,
        proc=proc,
        scratch=os.environ["TMPDIR"],
        masked=tuple(config["masked"]),
        grouped=config["grouped"],
        read_search=rules is not None and _hidden_from_nobody([*config["site"], *sys.path]),
    )


def _hidden_from_nobody(paths: Sequence[str]) -> bool:
    """Whether some module's path leads through a folder that others may not enter."""
    folders = {str(folder) for path in paths for folder in (Path(path), *Path(path).parents)}
    return any(os.path.isdir(folder) and os.stat(folder).st_mode & 5 != 5 for folder in folders)


def _address_space(proc: int) -> int:
    descriptor = os.open("self/statm", os.O_RDONLY, dir_fd=proc)
    try:
        return int(os.read(descriptor, 100).split()[0]) * resource.getpagesize()
    finally:
        os.close(descriptor)


def _namespaces(proc: int) -> dict[str, str]:
    return {kind: os.readlink(f"self/ns/{kind}", dir_fd=proc) for kind in NAMESPACE_KINDS}


def _prove_kernel_layers(level: str) -> list[str]:
    """Landlock and the filter, each tried alone, before anything else could refuse for them."""
    if level == confine.NONE:
        return []
    if not confine.proven(confine.seccomp_holds):
        raise OSError("the kernel does not enforce a seccomp filter here")
    if landlock.abi() and confine.proven(confine.landlock_holds):
        return ["no_new_privs", "seccomp", "landlock"]
    if level == confine.LANDLOCK:
        raise OSError("the kernel has no Landlock, or it does not hold here")
    return ["no_new_privs", "seccomp"]


def _prove_candidate_layers(setting: confine.Confinement) -> list[str]:
    """The limits, and what only a fully confined child can show."""
    if not confine.proven(lambda: confine.limits_hold(setting)):
        raise OSError("the address-space limit does not hold here")
    if setting.level == confine.NONE:
        return ["rlimits"]
    if setting.own_pid_namespace is not None:
        namespaces.next_child_is_pid_one(setting.own_pid_namespace)
    if not confine.proven(lambda: confine.candidate_holds(setting)):
        raise OSError(f"a canary confined at level {setting.level!r} was not held back")
    return ["rlimits", "unprivileged", "session", *FILES[setting.level]]


def _serve_one(control: socket.socket, setting: confine.Confinement, stub: Any) -> None:
    message, pipes, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 3)
    if not message:
        os._exit(0)
    if not pipes:
        return  # a request to stop that crossed with the end of the candidate it was meant for
    report = candidate.run(control, setting, json.loads(message), pipes=pipes, stub=stub)
    control.send(json.dumps(report).encode())
