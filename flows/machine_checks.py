"""What `eureka doctor` checks of the machine: Python, packages, CPU, memory, disk, GPU, clock."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from eurekaflow.flows import hardware
from eurekaflow.flows.findings import Check
from eurekaflow.flows.rendering import size

if TYPE_CHECKING:
    from eurekaflow.flows.configure import Surroundings

OLDEST, NEWEST = (3, 11), (3, 13)
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
GB = 10**9
LEAST_MEMORY, GOOD_MEMORY = 3 * GB, 6 * GB  # training the bundled policy takes 4-5 GB
LEAST_DISK, GOOD_DISK = 2 * GB, 10 * GB  # weights, converted weights, checkpoints, archive
CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"


def python(here: Surroundings) -> Check:
    """The interpreter is one that the tests cover."""
    found = ".".join(map(str, sys.version_info[:3]))
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return Check("python", "pass", f"{found} in {sys.prefix}")
    return Check("python", "fail", f"{found}; 3.11 to 3.13 are supported", "install Python 3.11")


def packages(here: Surroundings) -> Check:
    """Requirements are met; versions are the tested ones where these are known."""
    unmet = _unmet(importlib.metadata.requires("eurekaflow") or [])
    fix = f"{sys.executable} -m pip install -c {CONSTRAINTS} ."
    if unmet:
        return Check("packages", "fail", "not met: " + "; ".join(unmet), fix)
    other = _differing(CONSTRAINTS) if CONSTRAINTS.is_file() else []
    if other:
        return Check("packages", "warn", "other than tested: " + "; ".join(other), fix)
    return Check("packages", "pass", "the tested versions")


def _unmet(requirements: list[str]) -> list[str]:
    from packaging.requirements import Requirement

    unmet = []
    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _installed(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            unmet.append(f"{requirement.name}{requirement.specifier} (found {found})")
    return unmet


def _differing(constraints: Path) -> list[str]:
    """Installed packages whose version is not the constraint's (build labels aside)."""
    from packaging.requirements import Requirement

    other = []
    for line in constraints.read_text().splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        pin = Requirement(text)
        if pin.marker and not pin.marker.evaluate():
            continue
        found = _installed(pin.name)
        if found is not None and not pin.specifier.contains(found, prereleases=True):
            other.append(f"{pin.name} {found} ({pin.specifier})")
    return other


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor(here: Surroundings) -> Check:
    """Whether the CPU has bfloat16 arithmetic, which makes the policy several times faster."""
    found = sorted(BF16_FLAGS & hardware.cpu_features())
    cpus = hardware.usable_cpus()
    if found:
        return Check("processor", "pass", f"{cpus} CPUs, bfloat16 ({', '.join(found)})")
    return Check(
        "processor", "warn", f"{cpus} CPUs without bfloat16: the policy is slower, in float32"
    )


def memory(here: Surroundings) -> Check:
    """Enough memory for the bundled policy."""
    found = hardware.available_memory()
    if found is None:
        return Check("memory", "warn", "cannot tell how much is available")
    message = f"{size(found)} available"
    if found < LEAST_MEMORY:
        fix = "close other programs, or use a machine with 8 GB"
        return Check("memory", "fail", f"{message}, training needs {size(LEAST_MEMORY)}", fix)
    return Check("memory", "pass" if found >= GOOD_MEMORY else "warn", message)


def disk(here: Surroundings) -> Check:
    """Enough space where the archive and the weights live."""
    free = hardware.free_disk(here.home)
    message = f"{size(free)} free in {here.home}"
    fix = "free some space, or choose another folder with EUREKA_HOME"
    if free < LEAST_DISK:
        return Check("disk", "fail", message, fix)
    return Check("disk", "pass" if free >= GOOD_DISK else "warn", message, fix)


def gpu(here: Surroundings) -> Check:
    """An NVIDIA GPU, if any, that the installed torch can use."""
    names = _gpu_names()
    if not names:
        return Check("gpu", "pass", "none; runs use the CPU")
    if "+cpu" in (_installed("torch") or ""):
        fix = f"{sys.executable} -m pip install --force-reinstall torch"
        return Check("gpu", "warn", f"{', '.join(names)}; but torch is the CPU build", fix)
    return Check("gpu", "pass", ", ".join(names))


def _gpu_names() -> list[str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def clock(here: Surroundings) -> Check:
    """The clock is not behind the program's own files."""
    newest = max(path.stat().st_mtime for path in Path(__file__).parent.glob("*.py"))
    if time.time() + 60 < newest:
        behind = (newest - time.time()) / 3600
        return Check(
            "clock", "warn", f"{behind:.1f} h behind this program's files", "set the clock"
        )
    return Check("clock", "pass", time.strftime("%Y-%m-%d %H:%M:%S %z"))


MACHINE = (python, packages, processor, memory, disk, gpu, clock)
