"""The two worker processes seen from the supervisor: start, connect, end.

The reference worker is ours and unconfined; a candidate's worker is confined (`gpu_launch`) and
has two descriptors besides its output: the channel to the reference worker and the shared memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eurekaflow.verifiers import confine
from eurekaflow.verifiers.gpu_frames import receive, send
from eurekaflow.verifiers.namespaces import scratch_folder
from eurekaflow.verifiers.sandbox import SandboxUnavailable

FOLDER = Path(__file__).resolve().parent
START_S, OUTPUT_BYTES = 120.0, 64 << 10
CPU_S = 3600.0
PARTS = ("memory", "arguments", "compiled", "recording", "shims", "candidate")
BOOT = """
import json, sys, types
for name in ("eurekaflow", "eurekaflow.verifiers"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [sys.argv[1]] if "." in name else []
from eurekaflow.verifiers.gpu_launch import main
main(json.loads(sys.argv[2]))
"""
WORKER = """
import json, sys, types
setting = json.loads(sys.argv[1])
sys.argv[1:] = []
sys.path[:] = [*filter(None, sys.path), *setting["site"]]
parts = types.SimpleNamespace()
for name in setting["parts"]:
    module = types.ModuleType(name)
    exec(compile(setting["parts"][name], f"<{name}>", "exec"), module.__dict__)
    setattr(parts, name, module)
parts.shims.provide(parts.arguments.KVCache)
parts.candidate.main(parts.memory.Arena, setting["size"], parts.arguments.build, parts)
"""


class WorkerEnded(RuntimeError):
    """A worker is gone or silent; the message says which way."""


class Reference:
    """The trusted worker. Not thread-safe."""

    def __init__(self, command: list[str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._process = subprocess.Popen(
                command or [sys.executable, "-m", "eurekaflow.verifiers.gpu_reference",
                            str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=self._errors, stderr=self._errors,
                pass_fds=(theirs.fileno(),), start_new_session=True,
            )  # fmt: skip

    def ask(
        self, request: Mapping[str, Any], *, timeout_s: float, descriptors: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """The reply to one request. Raises WorkerEnded."""
        self.channel.settimeout(timeout_s)
        try:
            send(self.channel, request)
            if descriptors:
                socket.send_fds(self.channel, [b"."], list(descriptors))
            reply: dict[str, Any] = json.loads(receive(self.channel))
        except (OSError, EOFError) as error:
            raise WorkerEnded(f"the reference worker: {error!r}{self._last_words()}") from error
        return reply

    def descriptor(self) -> int:
        """The shared memory's descriptor, after the reply that announced it."""
        _, found, _, _ = socket.recv_fds(self.channel, 1, 1)
        return found[0]

    def close(self) -> None:
        """End it."""
        self.channel.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


class Candidate:
    """A candidate's worker, started without waiting so that several can start at once."""

    def __init__(
        self, arena: int, *, size: int, libraries: str, confined: bool = True, cache: str = ""
    ) -> None:
        self._output, self.served = tempfile.TemporaryFile(), 0  # noqa: SIM115
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.channel, (self._status, status) = ours, os.pipe()
        config = configuration(size=size, libraries=libraries, confined=confined, cache=cache)
        numbers = [str(number) for number in (theirs.fileno(), arena, status)]
        python = [os.path.realpath(sys.executable), "-s", "-S", "-P", "-B", "-c", _SHUFFLE]
        command = [*python, *numbers, str(FOLDER), json.dumps(config)]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output,
                pass_fds=(theirs.fileno(), arena, status), env={"LC_ALL": "C.UTF-8"}, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        os.close(status)

    def wait_ready(self) -> int:
        """Its process id as seen from here. Raises SandboxUnavailable."""
        said = b""
        while select.select([self._status], [], [], START_S)[0]:
            part = os.read(self._status, 4096)
            if not part:
                break
            said += part
        reports = [json.loads(line) for line in said.replace(b"}{", b"}\n{").splitlines()]
        wrong = [report["error"] for report in reports if "error" in report]
        if wrong or not reports:
            reason = wrong[0] if wrong else self.output()[-300:].decode(errors="replace")
            raise SandboxUnavailable(f"a GPU candidate cannot be confined here: {reason}")
        self.pid = int(reports[0]["pid"])
        return self.pid

    def wait_loaded(self) -> None:
        """Until it has said that it is ready, or ended; what it said stays to be read."""
        select.select([self.channel], [], [], START_S)

    def output(self) -> bytes:
        """What it printed, the first part."""
        return os.pread(self._output.fileno(), OUTPUT_BYTES, 0)

    def close(self) -> None:
        """End it and everything in it; its memory on the device goes with it."""
        self._process.kill()
        if hasattr(self, "pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, 9)
        self._process.wait()
        self.channel.close()
        os.close(self._status)
        self._output.close()


# Descriptors 3 channel, 4 arena, 5 status, wherever they came from.
_SHUFFLE = f"""
import fcntl, os, sys
moved = [fcntl.fcntl(int(given), fcntl.F_DUPFD, 64) for given in sys.argv[1:4]]
for target, source in enumerate(moved, 3):
    os.dup2(source, target)
os.set_inheritable(5, False)
os.closerange(6, 1024)
del sys.argv[1:4]
{BOOT}
"""


def configuration(*, size: int, libraries: str, confined: bool, cache: str = "") -> dict[str, Any]:
    """What `gpu_launch` must know of this installation and of the worker it becomes.

    `cache`: where Triton keeps what it compiles; in the worker's own scratch folder if not given.
    """
    site = _package_folders()
    prefixes = {sys.prefix, sys.base_prefix, *map(os.path.realpath, (sys.prefix, sys.base_prefix))}
    readable = [*sorted(prefixes), *site]
    scratch = scratch_folder(readable) if confined else tempfile.mkdtemp(prefix="eurekaflow-gpu-")
    setting = {
        "site": site,
        "size": size,
        "parts": {name: (FOLDER / f"gpu_{name}.py").read_text() for name in PARTS},
    }
    return {
        "level": confine.NAMESPACES if confined else confine.NONE,
        "readable": readable,
        "masked": [str(FOLDER.parent)],
        "devices": sorted(p.name for p in Path("/dev").glob("nvidia*") if not p.is_dir()),
        "cpu_s": CPU_S,
        "python": os.path.realpath(sys.executable),
        "argv": ["-s", "-S", "-P", "-B", "-c", WORKER, json.dumps(setting)],
        "environment": _environment(scratch, libraries, cache or f"{scratch}/triton"),
    }


def _environment(scratch: str, libraries: str, cache: str) -> dict[str, str]:
    return {
        "PATH": "/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "HOME": scratch,
        "TMPDIR": scratch,
        "USER": "candidate",
        "TRITON_CACHE_DIR": cache,
        "TORCHINDUCTOR_CACHE_DIR": f"{scratch}/inductor",
        "CUDA_CACHE_PATH": f"{scratch}/cuda",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # its pool of processes would outlive the calls
        "PYTHONDONTWRITEBYTECODE": "1",
        **({"LD_LIBRARY_PATH": libraries, "TRITON_LIBCUDA_PATH": libraries} if libraries else {}),
    }


def _package_folders() -> list[str]:
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    for package in ("torch", "triton", "numpy"):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            folders.append(str(Path(spec.origin).parents[1]))
    return [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]
