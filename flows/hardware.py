"""What this machine offers, seen without importing torch: CPUs, memory, disk, NVIDIA GPUs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eurekaflow.models.rows import RunRow
    from eurekaflow.verifiers.problem import Problem

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # "max 100000" or "150000 100000"
_MEMORY_MAX = Path("/sys/fs/cgroup/memory.max")


def usable_cpus() -> int:
    """CPUs this process may use: its affinity, and the container's quota where there is one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _quota(_CPU_MAX)
    return max(1, min(count or 1, quota or count or 1))


def _quota(path: Path) -> int | None:
    try:
        limit, period = path.read_text().split()
        return None if limit == "max" else max(1, round(int(limit) / int(period)))
    except (OSError, ValueError):
        return None


def gpu_present(environ: Mapping[str, str]) -> bool:
    """Whether an NVIDIA GPU is there and not hidden by an empty CUDA_VISIBLE_DEVICES."""
    if environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in {"", "-1"}:
        return False
    if any(Path("/proc/driver/nvidia/gpus").glob("*")) or any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    return shutil.which("nvidia-smi", path=environ.get("PATH", "")) is not None


def visible_gpus(environ: Mapping[str, str], listing: str | None = None) -> list[str]:
    """UUIDs of the physical GPUs that a process with this environment may use, sorted.

    A part of a GPU (MIG) stands for the whole. `listing` is what `nvidia-smi -L` prints, asked for
    when not given. Empty where it does not answer.
    """
    whole, parts = _listed(_nvidia_smi(environ) if listing is None else listing)
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return sorted(whole)
    found = set()
    for word in filter(None, map(str.strip, chosen.split(","))):
        if word.isdigit():
            found |= set(whole[int(word) : int(word) + 1])
        else:
            found |= {gpu for name, gpu in parts.items() if name.startswith(word)}
    return sorted(found)


def _listed(listing: str) -> tuple[list[str], dict[str, str]]:
    """GPUs by index; and of every UUID, a whole GPU's or a part's, the GPU it is on."""
    whole: list[str] = []
    parts: dict[str, str] = {}
    for uuid in re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)", listing):
        if uuid.startswith("GPU-"):
            whole.append(uuid)
        if whole:
            parts[uuid] = whole[-1]
    return whole, parts


def _nvidia_smi(environ: Mapping[str, str]) -> str:
    command = shutil.which("nvidia-smi", path=environ.get("PATH", ""))
    if command is None:
        return ""
    try:
        done = subprocess.run(
            [command, "-L"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def cpu_features() -> frozenset[str]:
    """The CPU's feature flags as the kernel names them; empty where they cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def available_memory() -> int | None:
    """Bytes of memory that can be had, the container's limit respected; None if unknown."""
    known = [size for size in (_meminfo_available(), _cgroup_free()) if size is not None]
    return min(known, default=None)


def _meminfo_available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return None
    return None


def _cgroup_free() -> int | None:
    try:
        limit = int(_MEMORY_MAX.read_text())
        used = int(_MEMORY_MAX.with_name("memory.current").read_text())
    except (OSError, ValueError):
        return None
    return limit - used


def free_disk(folder: Path) -> int:
    """Bytes free where `folder` is, or would be made. Raises OSError."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def refuse_other_gpu(problem: Problem, run: RunRow) -> None:
    """Raise UsageError where a run of timed kernels would go on with another GPU model.

    Times of two models in one tree cannot be compared. A run that began before models were
    recorded goes on.
    """
    from eurekaflow.models.errors import UsageError
    from eurekaflow.verifiers.gpu_problem import Kernel, gpu_model

    before, now = run.hardware.get("gpu", ""), gpu_model()
    if isinstance(problem, Kernel) and before and before != now:
        raise UsageError(
            f"run {run.uuid} has timed its kernels on {before}; this machine has {now or 'none'}",
            f"go on where there is {before}, or start anew: eureka run {problem.name}",
        )
